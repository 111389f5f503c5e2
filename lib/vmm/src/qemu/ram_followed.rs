//! RAM of a restored VM that may run, with the pages that it writes followed.

use std::io;
use std::ops::Range;
use std::path::Path;

use dormouse_guest_mem::{PageSet, RamSource};
use dormouse_host_sys::WriteWatch;

use super::process::Process;
use super::ram_clone::CloneRam;
use crate::{FollowedRam, PausedRam, Restored, Result, VmmError};

/// What the VM wrote, by what the kernel notes for us. Disk requests of this backend are copied to RAM by system calls, which it notes
/// too.
pub(super) struct FollowedClone {
    ram: CloneRam,
    watch: WriteWatch,
}

impl FollowedClone {
    /// Begins to follow what the process writes to its view of the file `base` of `len` bytes.
    pub(super) fn begin(process: &Process, base: &Path, len: u64) -> Result<Self> {
        let ram = CloneRam::find(process, base, len)?;
        let cannot = |error: io::Error| VmmError::Ram {
            reason: format!("the writes of process {} cannot be followed: {error}", process.pid),
        };
        let watch = process.watch_writes().map_err(cannot)?;
        ram.addresses().try_for_each(|addresses| watch.add(addresses)).map_err(cannot)?;
        let mut followed = Self { ram, watch };
        // Before it is asked which pages are the process's own: what is written in between is found by both, not by none.
        followed.take().map_err(cannot)?;
        followed.ram.look()?;
        Ok(followed)
    }

    fn take(&self) -> io::Result<PageSet> {
        self.ram.ask(|pagemap, addresses, found| self.watch.take(pagemap, addresses, found))
    }
}

impl FollowedRam for FollowedClone {
    /// Of pages that were not the process's own before, some were only read, or have a neighbour that was written: those are still not its own.
    fn written_since(&mut self) -> io::Result<PageSet> {
        let noted = self.take()?;
        let before = self.ram.written();
        let again = noted.intersection(before);
        let own = self.ram.own_among(&noted.difference(before))?;
        self.ram.also_written(&own);
        Ok(again.union(&own))
    }
}

impl PausedRam for FollowedClone {
    fn restored(&self) -> Option<Restored<'_>> {
        self.ram.restored()
    }

    fn copy_pages(&self, runs: &[Range<u32>], into: &mut [u8]) -> io::Result<()> {
        self.ram.copy_pages(runs, into)
    }
}

impl RamSource for FollowedClone {
    fn len(&self) -> u64 {
        RamSource::len(&self.ram)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.ram.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        self.ram.populated()
    }
}
