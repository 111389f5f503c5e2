//! RAM of a restored VM: a file, and the pages that the VM copied because it wrote to them.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamSource};

use super::extents;
use super::maps::{FileName, Mapping, covering};
use super::process::Process;
use crate::{Result, VmmError};

const PAGE: u64 = PAGE_SIZE as u64;
/// One entry of `/proc/PID/pagemap` (`Documentation/admin-guide/mm/pagemap.rst` in Linux).
const ENTRY: u64 = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Page of a file or shared memory; clear for a page that the process copied for itself.
const FILE_OR_SHARED: u64 = 1 << 61;
const ENTRIES_AT_ONCE: u64 = 64 << 10;

/// The RAM as it is while the VM stays paused. The set of copied pages is read once, in [`read`](Self::read).
pub(super) struct CloneRam {
    base: File,
    memory: File,
    mappings: Vec<Mapping>,
    dirty: PageSet,
    len: u64,
}

impl CloneRam {
    /// Looks which of the `len` bytes of the file `base`, mapped by the process, are copies of its own.
    pub(super) fn read(process: &Process, base: &Path, len: u64) -> Result<Self> {
        let proc = |name: &str| format!("/proc/{}/{name}", process.pid);
        let file = File::open(base).map_err(VmmError::io("open", base))?;
        let name = FileName::of(&file, base).map_err(VmmError::io("examine", base))?;
        let maps = fs::read_to_string(proc("maps")).map_err(VmmError::io("read", proc("maps")))?;
        let memory = File::open(proc("mem")).map_err(VmmError::io("open", proc("mem")))?;
        let pagemap = File::open(proc("pagemap")).map_err(VmmError::io("open", proc("pagemap")))?;
        if !process.is_current() {
            return Err(VmmError::Ram { reason: "the process ended".into() });
        }
        let mappings = covering(&maps, &name, len).ok_or_else(|| VmmError::Ram {
            reason: format!("process {} does not map {} privately and whole", process.pid, base.display()),
        })?;
        let dirty = copied(&pagemap, &mappings, len).map_err(VmmError::io("read", proc("pagemap")))?;
        Ok(Self { base: file, memory, mappings, dirty, len })
    }

    /// Pages that the VM has written since it was restored, or written back to what they were.
    #[cfg(test)]
    pub(super) fn dirty(&self) -> &PageSet {
        &self.dirty
    }

    /// Reads copied pages from the process.
    fn read_copied(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let after = self.mappings.partition_point(|m| m.offset <= offset);
            let mapping =
                after.checked_sub(1).and_then(|i| self.mappings.get(i)).ok_or(io::ErrorKind::UnexpectedEof)?;
            let into = offset - mapping.offset;
            let left = mapping.len.checked_sub(into).filter(|l| *l > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (now, rest) = buf.split_at_mut(take);
            self.memory.read_exact_at(now, mapping.address + into)?;
            offset += take as u64;
            buf = rest;
        }
        Ok(())
    }

    fn is_dirty(&self, offset: u64) -> bool {
        u32::try_from(offset / PAGE).is_ok_and(|page| self.dirty.contains(PageIndex(page)))
    }
}

impl RamSource for CloneRam {
    fn len(&self) -> u64 {
        self.len
    }

    /// One system call for each run of pages that come from the same place.
    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        while offset < end {
            let dirty = self.is_dirty(offset);
            let mut run_end = offset - offset % PAGE + PAGE;
            while run_end < end && self.is_dirty(run_end) == dirty {
                run_end += PAGE;
            }
            let run = usize::try_from(run_end.min(end) - offset).unwrap_or(usize::MAX);
            let (now, rest) = buf.split_at_mut(run);
            if dirty {
                self.read_copied(offset, now)?
            } else {
                self.base.read_exact_at(now, offset)?
            }
            offset = run_end.min(end);
            buf = rest;
        }
        Ok(())
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        let mut written = Vec::new();
        for page in self.dirty.iter() {
            extents::push(&mut written, page.offset()..page.offset() + PAGE);
        }
        Ok(extents::union(&extents::data(&self.base, self.len)?, &written))
    }
}

/// Which pages of the mapped file are the process's own copies, in memory or swapped out.
fn copied(pagemap: &File, mappings: &[Mapping], len: u64) -> io::Result<PageSet> {
    let pages = u32::try_from(len / PAGE).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut set = PageSet::new(pages);
    for m in mappings {
        let (first, count) = (m.offset / PAGE, m.len / PAGE);
        for done in (0..count).step_by(usize::try_from(ENTRIES_AT_ONCE).unwrap_or(1)) {
            let some = ENTRIES_AT_ONCE.min(count - done);
            let entries = entries(pagemap, m.address / PAGE + done, some)?;
            for (entry, page) in entries.iter().zip(first + done..) {
                if is_copy(*entry) {
                    set.insert(PageIndex(u32::try_from(page).unwrap_or(u32::MAX)));
                }
            }
        }
    }
    Ok(set)
}

fn entries(pagemap: &File, first: u64, count: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; usize::try_from(count * ENTRY).unwrap_or(0)];
    pagemap.read_exact_at(&mut bytes, first * ENTRY)?;
    let (entries, _) = bytes.as_chunks::<8>();
    Ok(entries.iter().map(|e| u64::from_ne_bytes(*e)).collect())
}

/// A page that is not there, or is the file's, is read from the file, whether it is in memory or not.
fn is_copy(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) != 0 && entry & FILE_OR_SHARED == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_present_or_swapped_pages_that_are_no_files_are_copies() {
        assert!(is_copy(PRESENT));
        assert!(is_copy(SWAPPED));
        assert!(!is_copy(0), "never touched");
        assert!(!is_copy(PRESENT | FILE_OR_SHARED), "read only");
        assert!(!is_copy(SWAPPED | FILE_OR_SHARED), "shared memory that is swapped out");
    }
}
