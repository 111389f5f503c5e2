//! Guest physical memory under a budget, remembering what was read.

use dormouse_guest_mem::{GuestAddr, PAGE_SHIFT, PageIndex, PageSet, RamLayout, RamSource};

use crate::{SurveyError, Work};

/// The paused guest's RAM by guest physical address.
///
/// Every page from which something is read is remembered: these hold the kernel's own structures and cannot be free.
/// So are pages that are claimed without being read.
pub(crate) struct Ram<'a> {
    source: &'a dyn RamSource,
    layout: &'a RamLayout,
    budget: u64,
    own: PageSet,
    work: Work,
}

/// What cannot be reached is not an error by itself: kernels have holes in their maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reached {
    /// The buffer was filled.
    Yes,
    /// The bytes are not all in one region of guest RAM; the buffer is unchanged.
    NotRam,
}

impl<'a> Ram<'a> {
    /// Bytes that may be read for each page of RAM: twice the largest page structure that is accepted, which
    /// leaves as much again for page tables and sections.
    const BUDGET_PER_PAGE: u64 = 512;
    /// Covers the note and the fixed costs of a tiny guest.
    const BUDGET_BASE: u64 = 1 << 20;

    pub(crate) fn new(source: &'a dyn RamSource, layout: &'a RamLayout) -> Result<Self, SurveyError> {
        if source.len() != layout.len().0 {
            return Err(SurveyError::RamSize { file: source.len(), layout: layout.len().0 });
        }
        let budget = Self::budget(layout);
        Ok(Self { source, layout, budget, own: PageSet::new(layout.pages()), work: Work::default() })
    }

    /// The most bytes that are read of a guest with this layout.
    pub(crate) fn budget(layout: &RamLayout) -> u64 {
        Self::BUDGET_BASE + Self::BUDGET_PER_PAGE * u64::from(layout.pages())
    }

    pub(crate) fn layout(&self) -> &'a RamLayout {
        self.layout
    }

    /// Bytes of RAM from `addr` to the end of its region; 0 when `addr` is not RAM.
    pub(crate) fn contiguous(&self, addr: GuestAddr) -> u64 {
        self.layout.region_of(addr).map_or(0, |r| r.len - (addr.0 - r.guest.0))
    }

    /// Fills `buf` from `addr`.
    pub(crate) fn read(&mut self, addr: GuestAddr, buf: &mut [u8]) -> Result<Reached, SurveyError> {
        let len = buf.len() as u64;
        let Some(offset) = self.layout.offset_of(addr, len) else { return Ok(Reached::NotRam) };
        self.work.reads += 1;
        self.work.bytes_read += len;
        if self.work.bytes_read > self.budget {
            return Err(SurveyError::TooMuchWork { budget: self.budget });
        }
        self.source.read_at(offset, buf).map_err(|e| SurveyError::Read { offset, kind: e.kind() })?;
        self.remember(offset, len);
        Ok(Reached::Yes)
    }

    /// Remembers `len` bytes of RAM at `addr` as the kernel's own.
    pub(crate) fn claim(&mut self, addr: GuestAddr, len: u64) {
        if let Some(offset) = self.layout.offset_of(addr, len) {
            self.remember(offset, len);
        }
    }

    fn remember(&mut self, offset: u64, len: u64) {
        let page = |at: u64| u32::try_from(at >> PAGE_SHIFT).unwrap_or(u32::MAX);
        if let Some(last) = len.checked_sub(1) {
            self.own.insert_range(page(offset)..page(offset + last).saturating_add(1));
        }
    }

    pub(crate) fn count_struct_pages(&mut self, count: u64) {
        self.work.struct_pages_read += count;
    }

    /// A page of `set` that holds a structure of the kernel.
    pub(crate) fn own_page_in(&self, set: &PageSet) -> Option<PageIndex> {
        self.own.intersection(set).iter().next()
    }

    pub(crate) fn work(&self) -> Work {
        self.work
    }
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::RamRegion;

    use super::*;
    use crate::testing::SparseRam;

    #[test]
    fn reading_ends_when_the_budget_is_used_up() {
        let source = SparseRam::new(16 << PAGE_SHIFT);
        let layout = RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len: 16 << PAGE_SHIFT }]).unwrap();
        let mut ram = Ram::new(&source, &layout).unwrap();
        let budget = Ram::budget(&layout);
        let mut chunk = vec![0; 16 << PAGE_SHIFT];
        let whole_reads = budget / chunk.len() as u64;
        for _ in 0..whole_reads {
            assert_eq!(ram.read(GuestAddr(0), &mut chunk), Ok(Reached::Yes));
        }
        assert_eq!(ram.read(GuestAddr(0), &mut chunk), Err(SurveyError::TooMuchWork { budget }));
    }
}
