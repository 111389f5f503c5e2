//! Copying RAM before the VM is stopped.

use std::sync::Arc;

use dormouse_guest_mem::PageSet;
use dormouse_introspect::Request;
use dormouse_vmm::{FollowedRam, Vm};

use super::room::{CHEAPLY_COPIED, check};
use crate::error::with_causes;
use crate::snapshot::captured::Ahead;
use crate::{Error, Result, SnapshotId};

/// Copies what the VM has written so far, and has followed what it writes from now on. `None` if that is not possible, for whatever
/// reason: then all of it is copied while the VM stands still.
pub(super) async fn copy_ahead(vm: &Arc<dyn Vm>, id: &SnapshotId, threads: usize) -> Option<Ahead> {
    let for_vm = Arc::clone(vm);
    let copied = crate::blocking(move || {
        let ram = for_vm.follow_ram().map_err(Error::vmm)?;
        copy(&*for_vm, ram, threads)
    });
    copied
        .await
        .inspect_err(|error| {
            let reason = with_causes(error);
            tracing::info!(snapshot = %id, reason, "RAM cannot be copied ahead: the sandbox will stand still for longer");
        })
        .ok()
}

fn copy(vm: &dyn Vm, ram: Box<dyn FollowedRam>, threads: usize) -> Result<Ahead> {
    let written = ram.restored().map_or_else(|| vm.layout().len(), |restored| restored.written.bytes());
    let free = if written.0 > CHEAPLY_COPIED { likely_free(vm, &*ram) } else { None };
    let needed = match (&free, ram.restored()) {
        (Some(free), Some(restored)) => restored.written.difference(free).bytes(),
        _ => written,
    };
    check(needed)?;
    Ahead::copy(ram, free.as_ref(), threads).map_err(Error::io("copy the guest's RAM"))
}

/// The free pages as they look while the guest changes them: good enough to know what need not be copied ahead.
fn likely_free(vm: &dyn Vm, ram: &dyn FollowedRam) -> Option<PageSet> {
    let ram: &dyn dormouse_guest_mem::RamSource = ram;
    dormouse_introspect::survey(&Request { ram, layout: vm.layout(), note: None, mem_free: None })
        .ok()
        .map(|survey| survey.free)
}
