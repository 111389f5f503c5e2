//! The one pass over RAM: what each page is, and the data pages gathered into frames.

use std::ops::Range;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, RamSource, is_zero};

use super::page_map::PageMap;
use super::{Omit, WriteOptions};
use crate::error::WriteError;
use crate::page_kind::PageKind;
use crate::progress::Progress;
use crate::ram::{pages_of, populated};

/// Pages read at once: the zero test then runs on bytes that are still in the second-level cache.
const READ_PAGES: u32 = 64;
/// Pages passed between two looks at the progress, where nothing is read.
const SKIP_PAGES: u32 = 1 << 16;

/// Takes the pages of a full frame.
pub(super) type Emit<'e> = &'e mut dyn FnMut(Vec<u8>) -> Result<(), WriteError>;

pub(super) struct Scan<'a> {
    ram: &'a dyn RamSource,
    omit: &'a Omit<'a>,
    progress: &'a dyn Progress,
    frame_len: usize,
    frame: Vec<u8>,
    read: Vec<u8>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        ram: &'a dyn RamSource,
        omit: &'a Omit<'a>,
        options: &WriteOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        let frame_len = options.frame_pages as usize * PAGE_SIZE;
        Self { ram, omit, progress, frame_len, frame: Vec::new(), read: vec![0; READ_PAGES as usize * PAGE_SIZE] }
    }

    /// Adds every page to `map`, and gives the data pages to `emit` in order.
    pub(super) fn run(mut self, map: &mut PageMap, emit: Emit<'_>) -> Result<(), WriteError> {
        let mut at = 0;
        for range in populated(self.ram)? {
            self.absent(at..range.start, map)?;
            self.present(range.clone(), map, emit)?;
            at = range.end;
        }
        self.absent(at..pages_of(self.ram.len()), map)?;
        if !self.frame.is_empty() {
            emit(self.frame)?;
        }
        Ok(())
    }

    fn is_free(&self, page: u32) -> bool {
        self.omit.free.is_some_and(|set| set.contains(PageIndex(page)))
    }

    fn push(&self, map: &mut PageMap, page: u32, kind: PageKind) {
        map.push(kind, (self.omit.class_of)(PageIndex(page)));
    }

    /// Pages that are known to be zero without reading.
    fn absent(&self, pages: Range<u32>, map: &mut PageMap) -> Result<(), WriteError> {
        for part in parts(pages, SKIP_PAGES) {
            self.report(part.end)?;
            for page in part {
                self.push(map, page, if self.is_free(page) { PageKind::Free } else { PageKind::Zero });
            }
        }
        Ok(())
    }

    fn present(&mut self, pages: Range<u32>, map: &mut PageMap, emit: Emit<'_>) -> Result<(), WriteError> {
        for part in parts(pages, READ_PAGES) {
            self.report(part.end)?;
            let mut at = part.start;
            while at < part.end {
                let free = self.is_free(at);
                let end = (at + 1..part.end).find(|page| self.is_free(*page) != free).unwrap_or(part.end);
                if free {
                    (at..end).for_each(|page| self.push(map, page, PageKind::Free));
                } else {
                    self.read(at..end, map, emit)?;
                }
                at = end;
            }
        }
        Ok(())
    }

    /// Reads pages that are in use and sorts them into zero and data.
    fn read(&mut self, pages: Range<u32>, map: &mut PageMap, emit: Emit<'_>) -> Result<(), WriteError> {
        let mut buffer = std::mem::take(&mut self.read);
        let offset = PageIndex(pages.start).offset();
        let bytes = buffer.get_mut(..pages.len() * PAGE_SIZE).unwrap_or_default();
        self.ram.read_at(offset, bytes).map_err(|source| WriteError::Ram { offset, source })?;
        let (read, _) = bytes.as_chunks::<PAGE_SIZE>();
        for (page, content) in pages.zip(read) {
            if is_zero(content) {
                self.push(map, page, PageKind::Zero);
                continue;
            }
            self.push(map, page, PageKind::Data);
            self.keep(content, emit)?;
        }
        self.read = buffer;
        Ok(())
    }

    fn keep(&mut self, content: &[u8; PAGE_SIZE], emit: Emit<'_>) -> Result<(), WriteError> {
        if self.frame.capacity() == 0 {
            self.frame.reserve_exact(self.frame_len);
        }
        self.frame.extend_from_slice(content);
        if self.frame.len() == self.frame_len { emit(std::mem::take(&mut self.frame)) } else { Ok(()) }
    }

    fn report(&self, pages_done: u32) -> Result<(), WriteError> {
        self.progress.advance(Bytes::of_pages(u64::from(pages_done)), Bytes(self.ram.len()));
        if self.progress.cancelled() { Err(WriteError::Cancelled) } else { Ok(()) }
    }
}

/// Cuts `pages` at the multiples of `step`.
fn parts(pages: Range<u32>, step: u32) -> impl Iterator<Item = Range<u32>> {
    let mut at = pages.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start / step * step).saturating_add(step).min(pages.end);
        (start < pages.end).then_some(start..at)
    })
}
