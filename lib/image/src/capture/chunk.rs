//! What the pages of one chunk are.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, is_zero};

use super::PageCounts;
use super::draft::{ChunkDraft, DraftRun, DraftSource};
use super::shared::Shared;
use crate::disk::DiskSlot;
use crate::error::WriteError;
use crate::image::chunk::{CHUNK_PAGES, chunk_digest};
use crate::image::map::{MAX_DISK_RUN, Source};
use crate::page_hash::PageHash;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Free,
    Zero,
    /// As the parent has it, in a pack.
    Parent {
        pack: u16,
        at: u32,
    },
    /// As the parent has it, on the base disk: part of the run with this hash.
    ParentDisk {
        block: u32,
        hash: u32,
    },
    /// To be read. `same` when its content is known to be the parent's all the same.
    Look {
        same: bool,
    },
    /// Read, and not zero.
    Unknown,
    Disk {
        slot: DiskSlot,
        block: u32,
    },
    New,
}

/// Looks at chunks; one for each thread.
pub(super) struct ChunkReader<'a> {
    shared: &'a Shared<'a>,
    /// What the first page of the chunk is.
    first: u32,
    pages: Vec<Page>,
    /// Where the parent has each page, if there is a parent.
    before: Vec<Source>,
    /// Content of the pages that are `loaded`.
    content: Vec<u8>,
    loaded: Vec<bool>,
    /// The parent's RAM, or blocks of a disk.
    other: Vec<u8>,
    pub(super) counts: PageCounts,
    /// Hashes of the new pages of this chunk.
    pub(super) hashes: Vec<(PageHash, u32)>,
}

impl<'a> ChunkReader<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            first: 0,
            pages: Vec::new(),
            before: Vec::new(),
            content: vec![0; CHUNK_PAGES as usize * PAGE_SIZE],
            loaded: Vec::new(),
            other: vec![0; MAX_DISK_RUN as usize * PAGE_SIZE],
            counts: PageCounts::default(),
            hashes: Vec::new(),
        }
    }

    pub(super) fn chunk(&mut self, pages: Range<u32>) -> Result<ChunkDraft, WriteError> {
        self.hashes.clear();
        self.start(&pages);
        let changed = self.look(&pages)?;
        let digest = self.digest(&pages, changed)?;
        self.find_on_disks();
        self.settle();
        let mut draft = self.draft(&pages)?;
        draft.digest = digest;
        draft.runs.shrink_to_fit();
        Ok(draft)
    }

    /// What is known without reading.
    fn start(&mut self, pages: &Range<u32>) {
        let shared = self.shared;
        self.first = pages.start;
        self.loaded.clear();
        self.loaded.resize(pages.len(), false);
        self.pages.clear();
        self.pages.resize(pages.len(), Page::Zero);
        for part in shared.populated_in(pages.clone()) {
            let part = (part.start - pages.start) as usize..(part.end - pages.start) as usize;
            self.pages.get_mut(part).unwrap_or_default().fill(Page::Look { same: false });
        }
        self.before.clear();
        if let Some(parent) = &shared.parent {
            for (run, source) in parent.map.parts_in(pages.clone()) {
                self.before.extend((0..run.len() as u32).map(|into| source.skip(into)));
            }
            for ((page, state), before) in pages.clone().zip(&mut self.pages).zip(&self.before) {
                if !parent.written.contains(PageIndex(page)) {
                    *state = inherited(shared, *before).unwrap_or(Page::Look { same: true });
                }
            }
        }
        for (page, state) in pages.clone().zip(&mut self.pages) {
            if shared.is_free(page) {
                *state = Page::Free;
            }
        }
    }

    /// Reads what has to be looked at. Returns whether the chunk's content is, or may be, another than the parent's.
    fn look(&mut self, pages: &Range<u32>) -> Result<bool, WriteError> {
        let looks = ranges(&self.pages, |page| matches!(page, Page::Look { .. }));
        for range in looks {
            self.load(range.clone())?;
            for at in range.clone() {
                if is_zero(page_at(&self.content, at))
                    && let Some(state) = self.pages.get_mut(at)
                {
                    *state = Page::Zero;
                }
            }
        }
        if self.shared.parent.is_none() {
            self.replace(|page| matches!(page, Page::Look { .. }).then_some(Page::Unknown));
            return Ok(true);
        }
        let mut changed = self.compare(pages)?;
        for (state, before) in self.pages.iter().zip(&self.before) {
            let was_zero = matches!(before, Source::Zero | Source::Free);
            let is_zero = matches!(state, Page::Zero | Page::Free);
            changed |= is_zero != was_zero;
        }
        Ok(changed)
    }

    /// Compares the pages that were written and are not zero with what the VM was started with.
    fn compare(&mut self, pages: &Range<u32>) -> Result<bool, WriteError> {
        let Some(parent) = &self.shared.parent else { return Ok(true) };
        let mut changed = false;
        for range in ranges(&self.pages, |page| matches!(page, Page::Look { .. })) {
            for part in range.clone().step_by(MAX_DISK_RUN as usize) {
                let part = part..range.end.min(part + MAX_DISK_RUN as usize);
                let offset = PageIndex(pages.start + part.start as u32).offset();
                let old = self.other.get_mut(..part.len() * PAGE_SIZE).unwrap_or_default();
                // Nothing to compare with where nothing was written: that is read for its place alone.
                let written = self.pages.get(part.clone()).unwrap_or_default().contains(&Page::Look { same: false });
                if written {
                    parent.ram.read_at(offset, old).map_err(|source| WriteError::ParentRam { offset, source })?;
                }
                for (at, old) in part.zip(old.chunks_exact(PAGE_SIZE)) {
                    let (Some(state), Some(before)) = (self.pages.get_mut(at), self.before.get(at)) else { continue };
                    let same = *state == Page::Look { same: true } || old == page_at(&self.content, at);
                    let kept = same.then(|| inherited(self.shared, *before)).flatten();
                    changed |= !same;
                    // Bytes where the parent's image has none are never taken for zero, whatever its RAM file says.
                    *state = kept.filter(|kept| *kept != Page::Zero).unwrap_or(Page::Unknown);
                }
            }
        }
        Ok(changed)
    }

    /// Hash of the whole chunk.
    fn digest(&mut self, pages: &Range<u32>, changed: bool) -> Result<[u8; 32], WriteError> {
        let number = (pages.start / CHUNK_PAGES) as usize;
        let before = self.shared.parent.as_ref().and_then(|parent| parent.map.chunks.get(number));
        if let Some(digest) = before.filter(|_| !changed) {
            return Ok(*digest);
        }
        if self.pages.iter().all(|page| matches!(page, Page::Zero | Page::Free)) {
            return Ok(self.shared.zero);
        }
        for range in ranges(&self.pages, |page| !matches!(page, Page::Zero | Page::Free)) {
            for missing in ranges(self.loaded.get(range.clone()).unwrap_or_default(), |loaded| !loaded) {
                self.load(range.start + missing.start..range.start + missing.end)?;
            }
        }
        let content = self.content.get(..pages.len() * PAGE_SIZE).unwrap_or_default();
        // What is left in the buffer for pages that are zero or free is of an earlier chunk.
        Ok(chunk_digest(content, |at| matches!(self.pages.get(at), None | Some(Page::Zero | Page::Free))))
    }

    /// Looks the unknown pages up in the indexes of the disks, and compares what is found.
    fn find_on_disks(&mut self) {
        let mut hits: Vec<(usize, usize, u32)> = Vec::new();
        for at in 0..self.pages.len() {
            if self.pages.get(at) != Some(&Page::Unknown) {
                continue;
            }
            let hash = PageHash::of(page_at(&self.content, at));
            self.hashes.push((hash, self.first + at as u32));
            let disks = self.shared.disks.iter().enumerate();
            let hit = disks.filter_map(|(disk, content)| Some((at, disk, content.index.find(hash)?))).next();
            hits.extend(hit);
        }
        let goes_on = |a: &(usize, usize, u32), b: &(usize, usize, u32)| {
            (b.0, b.1) == (a.0 + 1, a.1) && a.2.checked_add(1) == Some(b.2)
        };
        for run in hits.chunk_by(goes_on).flat_map(|run| run.chunks(MAX_DISK_RUN as usize)) {
            let Some((first, disk, block)) = run.first().copied() else { continue };
            let Some(disk) = self.shared.disks.get(disk) else { continue };
            let blocks = self.other.get_mut(..run.len() * PAGE_SIZE).unwrap_or_default();
            let offset = PageIndex(block).offset();
            // What can not be read is not there: the pages are stored instead.
            let read = read_up_to(disk.file, blocks, offset);
            let blocks = blocks.get(..read).unwrap_or_default();
            for (into, found) in blocks.chunks_exact(PAGE_SIZE).enumerate() {
                let at = first + into;
                if found == page_at(&self.content, at)
                    && let Some(state) = self.pages.get_mut(at)
                {
                    *state = Page::Disk { slot: disk.slot, block: block + into as u32 };
                }
            }
        }
    }

    /// What is on no disk is new. Counts everything.
    fn settle(&mut self) {
        self.replace(|page| (*page == Page::Unknown).then_some(Page::New));
        let (pages, first) = (&self.pages, self.first);
        self.hashes.retain(|(_, page)| pages.get((page - first) as usize) == Some(&Page::New));
        for page in &self.pages {
            let counts = &mut self.counts;
            *match page {
                Page::Free => &mut counts.free,
                Page::Zero => &mut counts.zero,
                Page::Parent { .. } | Page::ParentDisk { .. } => &mut counts.parent,
                Page::Disk { slot: DiskSlot::Base, .. } => &mut counts.base_disk,
                Page::Disk { slot: DiskSlot::Overlay, .. } => &mut counts.overlay_disk,
                Page::New | Page::Unknown | Page::Look { .. } => &mut counts.data,
            } += 1;
        }
    }

    fn draft(&mut self, pages: &Range<u32>) -> Result<ChunkDraft, WriteError> {
        let mut draft = ChunkDraft::default();
        let mut at = 0;
        while let Some(page) = self.pages.get(at).copied() {
            let source = match page {
                Page::Free => DraftSource::Free,
                Page::Zero => DraftSource::Zero,
                Page::Parent { pack, at } => DraftSource::Parent { pack, at },
                Page::New | Page::Unknown | Page::Look { .. } => DraftSource::New,
                Page::Disk { slot, block } => {
                    let run = self.disk_run(at, |page, into| *page == Page::Disk { slot, block: block + into });
                    self.push_disk(&mut draft, slot, block, &run, None)?;
                    at = run.end;
                    continue;
                }
                Page::ParentDisk { block, hash } => {
                    let run = self.disk_run(at, |page, into| *page == Page::ParentDisk { block: block + into, hash });
                    let old = self.whole_run_hash(pages.start + at as u32, run.len());
                    self.push_disk(&mut draft, DiskSlot::Base, block, &run, old)?;
                    at = run.end;
                    continue;
                }
            };
            draft.push(source);
            at += 1;
        }
        Ok(draft)
    }

    /// The pages from `at` on that `belong`, at most as many as a run of disk blocks may have.
    fn disk_run(&self, at: usize, belongs: impl Fn(&Page, u32) -> bool) -> Range<usize> {
        let rest = self.pages.get(at..).unwrap_or_default().iter().take(MAX_DISK_RUN as usize);
        at..at + rest.zip(0..).take_while(|(page, into)| belongs(page, *into)).count()
    }

    /// The hash of the parent's run of disk blocks that starts at `page` and has so many pages.
    fn whole_run_hash(&self, page: u32, pages: usize) -> Option<[u8; 32]> {
        let map = self.shared.parent.as_ref()?.map;
        match map.run_of(PageIndex(page))? {
            (run, Source::Disk { hash, .. }) if run.start == page && run.len() == pages => {
                map.disk_hashes.get(hash as usize).copied()
            }
            _ => None,
        }
    }

    fn push_disk(
        &mut self,
        draft: &mut ChunkDraft,
        slot: DiskSlot,
        block: u32,
        run: &Range<usize>,
        hash: Option<[u8; 32]>,
    ) -> Result<(), WriteError> {
        let hash = match hash {
            Some(hash) => hash,
            None => {
                if self.loaded.get(run.clone()).unwrap_or_default().contains(&false) {
                    self.load(run.clone())?;
                }
                *blake3::hash(self.content.get(bytes_of(run)).unwrap_or_default()).as_bytes()
            }
        };
        draft.disk_hashes.push(hash);
        // A chunk has fewer pages than 16 bits count.
        draft.runs.push(DraftRun { pages: run.len() as u16, source: DraftSource::Disk { slot, block } });
        Ok(())
    }

    fn load(&mut self, range: Range<usize>) -> Result<(), WriteError> {
        let offset = PageIndex(self.first + range.start as u32).offset();
        let bytes = self.content.get_mut(bytes_of(&range)).unwrap_or_default();
        self.shared.capture.ram.read_at(offset, bytes).map_err(|source| WriteError::Ram { offset, source })?;
        self.loaded.get_mut(range).unwrap_or_default().fill(true);
        Ok(())
    }

    fn replace(&mut self, by: impl Fn(&Page) -> Option<Page>) {
        for page in &mut self.pages {
            if let Some(new) = by(page) {
                *page = new;
            }
        }
    }
}

/// What an unchanged page is; `None` if its place cannot be inherited. The parent's overlay is not this snapshot's.
fn inherited(shared: &Shared<'_>, before: Source) -> Option<Page> {
    match before {
        Source::Zero | Source::Free => Some(Page::Zero),
        Source::Data { pack, at } => Some(Page::Parent { pack, at }),
        Source::Disk { slot: DiskSlot::Base, block, hash } if shared.has_disk(DiskSlot::Base) => {
            Some(Page::ParentDisk { block, hash })
        }
        Source::Disk { .. } => None,
    }
}

/// Reads until the buffer is full, the file ends or an error comes, and says how much that is.
fn read_up_to(file: &File, buf: &mut [u8], offset: u64) -> usize {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    done
}

fn bytes_of(range: &Range<usize>) -> Range<usize> {
    range.start * PAGE_SIZE..range.end * PAGE_SIZE
}

fn page_at(content: &[u8], at: usize) -> &[u8] {
    content.get(bytes_of(&(at..at + 1))).unwrap_or_default()
}

/// The places of the longest runs that `belong`.
fn ranges<T>(all: &[T], belongs: impl Fn(&T) -> bool) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for at in all.iter().enumerate().filter(|(_, one)| belongs(one)).map(|(at, _)| at) {
        match out.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => out.push(at..at + 1),
        }
    }
    out
}
