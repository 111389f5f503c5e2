//! RAM of a restored VM: a file, and the pages that the VM copied because it wrote to them.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamSource};

use super::maps::{FileName, Mapping, covering};
use super::process::Process;
use crate::ram::copy_run_by_run;
use crate::{PausedRam, RamFile, Restored, Result, VmmError, extents};

const PAGE: u64 = PAGE_SIZE as u64;

/// The RAM as it is while the VM stays paused. The set of written pages is read once, in [`read`](Self::read).
pub(super) struct CloneRam {
    base: RamFile,
    process: Process,
    pagemap: File,
    mappings: Vec<Mapping>,
    written: PageSet,
    len: u64,
}

impl CloneRam {
    /// Looks which of the `len` bytes of the file `base`, mapped by the process, are copies of its own.
    pub(super) fn read(process: &Process, base: &Path, len: u64) -> Result<Self> {
        let mut ram = Self::find(process, base, len)?;
        ram.look()?;
        Ok(ram)
    }

    /// Finds where the process has mapped the `len` bytes of the file `base`. No page counts as written yet.
    pub(super) fn find(process: &Process, base: &Path, len: u64) -> Result<Self> {
        let proc = |name: &str| format!("/proc/{}/{name}", process.pid);
        let file = File::open(base).map_err(VmmError::io("open", base))?;
        let name = FileName::of(&file, base).map_err(VmmError::io("examine", base))?;
        let base_ram = RamFile::of(file).map_err(VmmError::io("examine", base))?;
        let maps = fs::read_to_string(proc("maps")).map_err(VmmError::io("read", proc("maps")))?;
        let pagemap = File::open(proc("pagemap")).map_err(VmmError::io("open", proc("pagemap")))?;
        if !process.is_alive() {
            return Err(VmmError::Ram { reason: "the process ended".into() });
        }
        let mappings = covering(&maps, &name, len).ok_or_else(|| VmmError::Ram {
            reason: format!("process {} does not map {} privately and whole", process.pid, base.display()),
        })?;
        let pages = u32::try_from(len / PAGE)
            .map_err(|_| VmmError::Ram { reason: format!("{} has too many pages", base.display()) })?;
        Ok(Self { base: base_ram, process: process.clone(), pagemap, mappings, written: PageSet::new(pages), len })
    }

    /// Looks which pages are the process's own copies.
    pub(super) fn look(&mut self) -> Result<()> {
        let found = self.ask(dormouse_host_sys::own_pages);
        self.written = found.map_err(VmmError::io("read", format!("/proc/{}/pagemap", self.process.pid)))?;
        Ok(())
    }

    /// Counts these pages as written too.
    pub(super) fn also_written(&mut self, pages: &PageSet) {
        pages.ranges().for_each(|run| self.written.insert_range(run));
    }

    /// Those of these pages that are the process's own copies. A system call for each run.
    pub(super) fn own_among(&self, pages: &PageSet) -> io::Result<PageSet> {
        let mut own = PageSet::new(pages.capacity());
        for run in pages.ranges() {
            let mut places = Vec::new();
            self.push_places(PageIndex(run.start).offset()..PageIndex(run.end).offset(), &mut places)?;
            let mut first = u64::from(run.start);
            for place in places {
                let page_at = |address: u64| u32::try_from(first + (address - place.start) / PAGE).unwrap_or(u32::MAX);
                dormouse_host_sys::own_pages(&self.pagemap, place.clone(), &mut |found| {
                    own.insert_range(page_at(found.start)..page_at(found.end));
                })?;
                first += (place.end - place.start) / PAGE;
            }
        }
        Ok(own)
    }

    /// The process's addresses at which it has mapped the file.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.mappings.iter().map(|m| m.address..m.address + m.len)
    }

    /// The pages whose addresses `find` gives, which is called for each mapping with the process's pagemap.
    pub(super) fn ask(
        &self,
        find: impl Fn(&File, Range<u64>, &mut dyn FnMut(Range<u64>)) -> io::Result<()>,
    ) -> io::Result<PageSet> {
        let mut set = PageSet::new(self.written.capacity());
        for m in &self.mappings {
            let page_at = |address: u64| u32::try_from((m.offset + address - m.address) / PAGE).unwrap_or(u32::MAX);
            find(&self.pagemap, m.address..m.address + m.len, &mut |found| {
                set.insert_range(page_at(found.start)..page_at(found.end));
            })?;
        }
        Ok(set)
    }

    /// The pages that the VM wrote.
    pub(super) fn written(&self) -> &PageSet {
        &self.written
    }

    /// Fills `into` with pages that the VM wrote, from the process's memory.
    fn read_written(&self, parts: impl Iterator<Item = Range<u64>>, into: &mut [u8]) -> io::Result<()> {
        let mut places = Vec::new();
        for part in parts {
            self.push_places(part, &mut places)?;
        }
        dormouse_host_sys::read_memory(self.process.id()?, &places, into)?;
        // While the process lived its number was nobody else's.
        if self.process.is_alive() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Adds the addresses in the process of a part of the RAM file.
    fn push_places(&self, part: Range<u64>, places: &mut Vec<Range<u64>>) -> io::Result<()> {
        let mut at = part.start;
        while at < part.end {
            let after = self.mappings.partition_point(|m| m.offset <= at);
            let mapping =
                after.checked_sub(1).and_then(|i| self.mappings.get(i)).ok_or(io::ErrorKind::UnexpectedEof)?;
            let into = at - mapping.offset;
            let left = mapping.len.checked_sub(into).filter(|l| *l > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
            let take = left.min(part.end - at);
            places.push(mapping.address + into..mapping.address + into + take);
            at += take;
        }
        Ok(())
    }

    fn is_written(&self, offset: u64) -> bool {
        u32::try_from(offset / PAGE).is_ok_and(|page| self.written.contains(PageIndex(page)))
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
            let written = self.is_written(offset);
            let mut run_end = offset - offset % PAGE + PAGE;
            while run_end < end && self.is_written(run_end) == written {
                run_end += PAGE;
            }
            let run_end = run_end.min(end);
            let (now, rest) = buf.split_at_mut(usize::try_from(run_end - offset).unwrap_or(usize::MAX));
            if written {
                self.read_written(std::iter::once(offset..run_end), now)?;
            } else {
                self.base.read_at(offset, now)?;
            }
            offset = run_end;
            buf = rest;
        }
        Ok(())
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        let mut written = Vec::new();
        for page in self.written.iter() {
            extents::push(&mut written, page.offset()..page.offset() + PAGE);
        }
        Ok(extents::union(&self.base.populated()?, &written))
    }
}

impl PausedRam for CloneRam {
    fn restored(&self) -> Option<Restored<'_>> {
        Some(Restored { written: &self.written, file: &self.base })
    }

    /// In few system calls if the VM wrote all of the pages.
    fn copy_pages(&self, runs: &[Range<u32>], into: &mut [u8]) -> io::Result<()> {
        if !runs.iter().cloned().flatten().all(|page| self.written.contains(PageIndex(page))) {
            return copy_run_by_run(self, runs, into);
        }
        let parts = runs.iter().map(|run| PageIndex(run.start).offset()..PageIndex(run.end).offset());
        self.read_written(parts, into)
    }
}
