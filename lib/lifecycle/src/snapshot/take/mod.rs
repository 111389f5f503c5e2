//! Taking a snapshot of a running VM.
//!
//! A *pause* ends the VM: it stays stopped until everything is durable, so that a failure can let it go on as if nothing had
//! been asked. A *checkpoint* lets it go on as soon as its RAM and disk are copied, most of which is done before it is stopped; what
//! is left is done from the copy. Both leave nothing on disk when they fail.

mod call_off;
mod early;
mod gather;
#[cfg(test)]
pub(crate) mod lab;
mod look_inside;
mod material;
mod measure;
mod memory;
mod prepare;
mod room;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dormouse_vmm::Vm;

pub(crate) use call_off::{call_off, let_go_on};
pub(crate) use material::Material;

use super::Stored;
use super::report::Steps;
use super::stored::DEVICE_STATE;
use crate::agent::Agent;
use crate::host::Shared;
use crate::state::Machine;
use crate::{PauseOptions, Result, SnapshotId, TemplateName};
use gather::Fate;
use room::Room;

/// What a snapshot is taken of.
pub(crate) struct Subject<'a> {
    pub(crate) vm: &'a Arc<dyn Vm>,
    pub(crate) agent: &'a Agent,
    pub(crate) machine: &'a Machine,
    pub(crate) template: &'a TemplateName,
    /// The snapshot that the VM was started from, if any.
    pub(crate) parent: Option<&'a SnapshotId>,
    /// The folder of the VM.
    pub(crate) run: &'a Path,
    pub(crate) overlay: &'a Path,
}

/// Takes a snapshot under the name `id`. On success it is durable, and the VM still stopped: its owner ends it. On failure
/// the VM runs on.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    subject: &Subject<'_>,
    options: PauseOptions,
    id: &SnapshotId,
) -> Result<Stored> {
    let mut steps = Steps::start();
    let taken = async {
        let mut before = None;
        if options.measure {
            before = Some(measure::measure_running(subject.vm).await?);
            steps.done("measure");
        }
        let prepared = prepare::prepare(shared, subject.agent, options.cache, id, &mut steps).await?;
        let material = gather::gather(shared, subject, &prepared, Fate::Ends { before }, id, steps).await?;
        let shared = Arc::clone(shared);
        crate::blocking(move || material.store(&shared)).await
    };
    match taken.await {
        Ok(stored) => Ok(stored),
        Err(error) => {
            forget_device_state(subject.run);
            Err(call_off(shared, subject.vm, subject.agent, error).await)
        }
    }
}

/// Copies what a snapshot is made of and lets the VM go on; [`Material::store`] makes the snapshot of it. On failure the VM
/// runs on as well.
pub(crate) async fn checkpoint(shared: &Arc<Shared>, subject: &Subject<'_>, id: &SnapshotId) -> Result<Material> {
    let mut steps = Steps::start();
    let copied = async {
        // Before the guest is asked to get ready, from when on its processes stand still.
        let ahead = early::copy_ahead(subject.vm, id, shared.limits.image_threads).await;
        steps.done("copy ahead");
        let prepared = prepare::prepare(shared, subject.agent, PauseOptions::default().cache, id, &mut steps).await?;
        let room = Room::make(subject.vm, &prepared, ahead).await?;
        steps.done("make room");
        gather::gather(shared, subject, &prepared, Fate::GoesOn { room }, id, steps).await
    };
    let copied = copied.await;
    if copied.is_err() {
        forget_device_state(subject.run);
    }
    let went_on = subject.vm.resume().await;
    match (copied, went_on) {
        (Ok(mut material), Ok(())) => {
            material.vcpus_run_again();
            call_off::no_snapshot_follows(shared, subject.agent).await;
            material.steps.skip();
            Ok(material)
        }
        (Err(error), _) => Err(call_off(shared, subject.vm, subject.agent, error).await),
        (Ok(_), Err(error)) => Err(call_off(shared, subject.vm, subject.agent, crate::Error::vmm(error)).await),
    }
}

/// Written by the VMM only when it got that far.
fn forget_device_state(run: &Path) {
    let _ = fs::remove_file(run.join(DEVICE_STATE));
}
