//! Memory for the copy of a VM's RAM, taken while the VM still runs.

use std::fs;
use std::io;
use std::sync::Arc;

use dormouse_agent_proto::control::PrepareReport;
use dormouse_guest_mem::Bytes;
use dormouse_host_sys::Buffer;
use dormouse_vmm::Vm;

use crate::snapshot::captured::Ahead;
use crate::{Error, Result};

/// A guest that is about to be stopped goes on writing for a moment.
const SLACK: u64 = 16 << 20;
/// What a copy leaves to everything else on the machine.
const RESERVE: u64 = 256 << 20;
/// Pages that the guest has freed are copied as well as long as they are this much at most: to find them out takes longer, and has to
/// wait until the VM stands still.
pub(super) const CHEAPLY_COPIED: u64 = 256 << 20;

/// Where the copy goes.
pub(super) struct Room {
    /// For what is not copied ahead.
    pub(super) buffer: Buffer,
    pub(super) ahead: Option<Ahead>,
    /// Whether to find the free pages before copying. Else they are copied too, and found in the copy when the VM goes on.
    pub(super) look_first: bool,
}

impl Room {
    /// Takes the memory from the system; what was copied `ahead` catches up with the VM.
    ///
    /// # Errors
    /// [`Error::NoMemory`]: the daemon must not be what brings the machine down.
    pub(super) async fn make(vm: &Arc<dyn Vm>, prepared: &PrepareReport, ahead: Option<Ahead>) -> Result<Self> {
        let vm = Arc::clone(vm);
        let mem_free = prepared.mem_free;
        crate::blocking(move || {
            let used = vm.layout().len().0.saturating_sub(mem_free);
            let (ahead, missing) = match ahead.map(catch_up).transpose().map_err(Error::io("copy the guest's RAM"))? {
                Some((ahead, missing)) => (Some(ahead), missing),
                None => (None, vm.ram_written().map_err(Error::vmm)?),
            };
            let copied = ahead.as_ref().map_or(Bytes(0), Ahead::copied);
            let (needed, look_first) = plan(used.saturating_sub(copied.0), missing.0);
            let needed = Bytes(needed);
            check(needed)?;
            let make = || {
                let mut buffer = Buffer::new(usize::try_from(needed.0).map_err(io::Error::other)?)?;
                // What cannot be taken now is taken when it is written to.
                let _ = buffer.populate(usize::MAX);
                Ok(buffer)
            };
            let buffer =
                make().map_err(Error::io(format!("get {needed} of memory for the copy of the guest's RAM")))?;
            Ok(Self { buffer, ahead, look_first })
        })
        .await
    }
}

fn catch_up(mut ahead: Ahead) -> io::Result<(Ahead, Bytes)> {
    ahead.catch_up()?;
    let missing = ahead.missing()?;
    Ok((ahead, missing))
}

/// How much memory a copy takes at most, and whether free pages are found first. The guest uses `used`, by its own word, which only
/// decides what is quicker. Both are without what was copied ahead.
fn plan(used: u64, written: u64) -> (u64, bool) {
    let surplus = written.saturating_sub(used);
    let look_first = surplus > CHEAPLY_COPIED;
    let most = if look_first { used } else { written };
    (most.saturating_add(SLACK), look_first)
}

/// Whether the machine has that much memory to spare.
pub(super) fn check(needed: Bytes) -> Result<()> {
    leaves_enough(needed, available())
}

fn leaves_enough(needed: Bytes, available: Option<Bytes>) -> Result<()> {
    match available {
        Some(available) if available.0 < needed.0.saturating_add(RESERVE) => Err(Error::NoMemory { needed, available }),
        _ => Ok(()),
    }
}

/// Memory that can be had without anybody suffering (`proc_meminfo(5)`).
fn available() -> Option<Bytes> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_copy_has_room_for_all_that_was_written_unless_most_of_that_is_free_again() {
        assert_eq!(plan(300 * MIB, 80 * MIB), (80 * MIB + SLACK, false));
        assert_eq!(plan(300 * MIB, 500 * MIB), (500 * MIB + SLACK, false), "quicker than to find out what is free");
        assert_eq!(plan(300 * MIB, 8000 * MIB), (300 * MIB + SLACK, true));
    }

    #[test]
    fn a_copy_that_the_machine_has_no_memory_for_is_refused_with_figures() {
        let needed = Bytes(1000 * MIB);
        assert!(leaves_enough(needed, Some(Bytes(1300 * MIB))).is_ok());
        assert!(leaves_enough(needed, None).is_ok(), "a system that does not tell");
        let refused = leaves_enough(needed, Some(Bytes(1200 * MIB))).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("1000.0 MiB needed, 1.17 GiB available"), "{text}");
    }

    #[test]
    fn the_system_tells_how_much_there_is() {
        assert!(available().unwrap().0 > MIB);
    }
}
