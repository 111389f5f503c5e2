//! The flat page map: where every page of RAM comes from.

use std::ops::Range;

use dormouse_guest_mem::{PageClass, PageIndex, RamLayout};

use super::chunk::chunk_of;
use crate::disk::DiskSlot;
use crate::pack::PackRef;
use crate::page_kind::{PageKind, Run};

/// The most pages in one run of disk blocks: what is read to check one of them.
pub(crate) const MAX_DISK_RUN: u32 = 64;
/// The most packs that an image may name.
pub(crate) const MAX_PACKS: usize = 1024;

/// A pack and how many pages it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) named: PackRef,
    pub(crate) pages: u32,
}

/// Where a run of pages comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Zero,
    Free,
    /// Consecutive pages of a pack from `at` on.
    Data {
        pack: u16,
        at: u32,
    },
    /// Consecutive blocks of a disk from `block` on; `hash` is the place of the hash of all of them.
    Disk {
        slot: DiskSlot,
        block: u32,
        hash: u32,
    },
}

impl Source {
    pub(crate) fn kind(self) -> PageKind {
        match self {
            Self::Zero => PageKind::Zero,
            Self::Free => PageKind::Free,
            Self::Data { .. } => PageKind::Data,
            Self::Disk { slot, .. } => slot.page_kind(),
        }
    }

    /// The source of the page that is `pages` further on in the same run.
    pub(crate) fn skip(self, pages: u32) -> Self {
        match self {
            Self::Data { pack, at } => Self::Data { pack, at: at.saturating_add(pages) },
            Self::Disk { slot, block, hash } => Self::Disk { slot, block: block.saturating_add(pages), hash },
            other => other,
        }
    }
}

/// A run of pages from one source. It ends where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRun {
    pub(crate) start: u32,
    pub(crate) source: Source,
}

/// A run of pages of one class. It ends where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassRun {
    pub(crate) start: u32,
    pub(crate) class: PageClass,
}

/// A checked page map: both kinds of runs cover RAM exactly; every place is one that there is; no run of disk blocks is
/// longer than [`MAX_DISK_RUN`] or crosses the border of a chunk, and each has a hash of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageMap {
    pub(crate) layout: RamLayout,
    pub(crate) packs: Vec<PackEntry>,
    pub(crate) runs: Vec<SourceRun>,
    pub(crate) classes: Vec<ClassRun>,
    /// BLAKE3 of the bytes of each run of disk blocks, in the order of the runs.
    pub(crate) disk_hashes: Vec<[u8; 32]>,
    /// BLAKE3 of each chunk of RAM.
    pub(crate) chunks: Vec<[u8; 32]>,
}

impl PageMap {
    /// The runs that hold a page of `pages`, whole, ascending.
    pub(crate) fn runs_in(&self, pages: Range<u32>) -> impl Iterator<Item = (Range<u32>, Source)> + '_ {
        let first = self.runs.partition_point(|run| run.start <= pages.start).saturating_sub(1);
        let runs = self.runs.get(first..).unwrap_or_default();
        let ends = runs.iter().skip(1).map(|next| next.start).chain([self.layout.pages()]);
        runs.iter()
            .zip(ends)
            .take_while(move |(run, _)| run.start < pages.end)
            .map(|(run, end)| (run.start..end, run.source))
    }

    /// All runs, ascending.
    pub(crate) fn all_runs(&self) -> impl Iterator<Item = (Range<u32>, Source)> + '_ {
        self.runs_in(0..u32::MAX)
    }

    /// The part of each run that lies within `pages`. A run of disk blocks may be cut by that.
    pub(crate) fn parts_in(&self, pages: Range<u32>) -> impl Iterator<Item = (Range<u32>, Source)> + '_ {
        let (from, to) = (pages.start, pages.end);
        self.runs_in(pages).map(move |(run, source)| {
            let start = run.start.max(from);
            (start..run.end.min(to), source.skip(start - run.start))
        })
    }

    /// The run that holds `page`; `None` past the end of RAM.
    pub(crate) fn run_of(&self, page: PageIndex) -> Option<(Range<u32>, Source)> {
        (page.0 < self.layout.pages()).then(|| self.runs_in(page.0..page.0 + 1).next()).flatten()
    }

    /// The parts of `pages` that are of one class.
    pub(crate) fn classes_in(&self, pages: Range<u32>) -> impl Iterator<Item = (Range<u32>, PageClass)> + '_ {
        let first = self.classes.partition_point(|run| run.start <= pages.start).saturating_sub(1);
        let runs = self.classes.get(first..).unwrap_or_default();
        let ends = runs.iter().skip(1).map(|next| next.start).chain([self.layout.pages()]);
        let (from, to) = (pages.start, pages.end);
        let runs = runs.iter().zip(ends).take_while(move |(run, _)| run.start < to);
        runs.map(move |(run, end)| (run.start.max(from)..end.min(to), run.class))
    }

    /// All of RAM as runs of one kind and class that are as long as possible.
    pub(crate) fn runs_by_class(&self) -> impl Iterator<Item = Run> + '_ {
        let pieces = self.all_runs().flat_map(|(pages, source)| {
            let kind = source.kind();
            self.classes_in(pages).map(move |(pages, class)| Run { pages, kind, class })
        });
        let mut pieces = pieces.peekable();
        std::iter::from_fn(move || {
            let mut run = pieces.next()?;
            while let Some(next) = pieces.next_if(|next| (next.kind, next.class) == (run.kind, run.class)) {
                run.pages.end = next.pages.end;
            }
            Some(run)
        })
    }
}

/// A page map while it grows.
pub(crate) struct MapBuilder {
    pages: u32,
    runs: Vec<SourceRun>,
    disk_hashes: Vec<[u8; 32]>,
}

impl MapBuilder {
    pub(crate) fn new() -> Self {
        Self { pages: 0, runs: Vec::new(), disk_hashes: Vec::new() }
    }

    /// Adds the next pages; not for disk blocks.
    pub(crate) fn push(&mut self, pages: u32, source: Source) {
        let goes_on = self.runs.last().is_some_and(|last| match last.source {
            Source::Zero | Source::Free => last.source == source,
            Source::Data { .. } => last.source.skip(self.pages - last.start) == source,
            Source::Disk { .. } => false,
        });
        if !goes_on {
            self.runs.push(SourceRun { start: self.pages, source });
        }
        self.pages += pages;
    }

    /// Adds a run of disk blocks whose bytes have this hash.
    pub(crate) fn push_disk(&mut self, pages: u32, slot: DiskSlot, block: u32, hash: [u8; 32]) {
        let place = self.disk_hashes.len() as u32;
        self.disk_hashes.push(hash);
        self.runs.push(SourceRun { start: self.pages, source: Source::Disk { slot, block, hash: place } });
        self.pages += pages;
    }

    pub(crate) fn finish(
        self,
        layout: RamLayout,
        packs: Vec<PackEntry>,
        classes: Vec<ClassRun>,
        chunks: Vec<[u8; 32]>,
    ) -> PageMap {
        PageMap { layout, packs, runs: self.runs, classes, disk_hashes: self.disk_hashes, chunks }
    }
}

/// Whether these pages may be one run of disk blocks.
pub(crate) fn is_disk_run(pages: &Range<u32>) -> bool {
    !pages.is_empty() && pages.len() as u32 <= MAX_DISK_RUN && chunk_of(pages.start) == chunk_of(pages.end - 1)
}
