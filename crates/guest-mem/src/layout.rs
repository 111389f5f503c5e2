//! Where guest RAM lies in the guest physical address space, and where in the RAM file.

use serde::{Deserialize, Serialize};

use crate::{Bytes, GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageIndex, Pfn};

/// A contiguous run of guest RAM, backed by a contiguous run of the RAM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamRegion {
    /// Guest physical address of the first byte; page aligned.
    pub guest: GuestAddr,
    /// Offset of the first byte in the RAM file; page aligned.
    pub offset: u64,
    /// Length in bytes; a multiple of the page size, not zero.
    pub len: u64,
}

/// All RAM of a guest: regions ascending in both address spaces, without overlap, dense in the RAM file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<RamRegion>", into = "Vec<RamRegion>")]
pub struct RamLayout {
    regions: Vec<RamRegion>,
}

/// Why a list of regions is no [`RamLayout`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The list is empty or longer than [`RamLayout::MAX_REGIONS`].
    #[error("a RAM layout has 1 to {max} regions, not {found}", max = RamLayout::MAX_REGIONS)]
    RegionCount {
        /// How many were given.
        found: usize,
    },
    /// A region is empty, unaligned, overlaps the one before, or leaves a gap in the RAM file.
    #[error("RAM region {index} is empty, unaligned, out of order or leaves a gap in the RAM file")]
    BadRegion {
        /// Its place in the list.
        index: usize,
    },
    /// All regions together exceed [`RamLayout::MAX_LEN`].
    #[error("guest RAM is larger than {}", RamLayout::MAX_LEN)]
    TooLarge,
}

impl RamLayout {
    /// More regions than any machine type has; bounds what a decoder accepts.
    pub const MAX_REGIONS: usize = 16;
    /// The largest guest that is accepted: keeps page indexes within 32 bits with room to spare.
    pub const MAX_LEN: Bytes = Bytes(1 << 42);

    /// Checks and takes a list of regions.
    ///
    /// # Errors
    /// [`LayoutError`] when the list breaks the invariants of this type.
    pub fn new(regions: Vec<RamRegion>) -> Result<Self, LayoutError> {
        if regions.is_empty() || regions.len() > Self::MAX_REGIONS {
            return Err(LayoutError::RegionCount { found: regions.len() });
        }
        let page = PAGE_SIZE as u64;
        let (mut next_guest, mut next_offset) = (0u64, 0u64);
        for (index, r) in regions.iter().enumerate() {
            let bad = LayoutError::BadRegion { index };
            let aligned = r.guest.0.is_multiple_of(page) && r.len.is_multiple_of(page) && r.len > 0;
            if !aligned || r.guest.0 < next_guest || r.offset != next_offset {
                return Err(bad);
            }
            next_guest = r.guest.0.checked_add(r.len).ok_or(bad)?;
            next_offset = r.offset.checked_add(r.len).ok_or(LayoutError::TooLarge)?;
        }
        if next_offset > Self::MAX_LEN.0 {
            return Err(LayoutError::TooLarge);
        }
        Ok(Self { regions })
    }

    /// The regions, ascending.
    #[must_use]
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// Size of the RAM file.
    #[must_use]
    pub fn len(&self) -> Bytes {
        Bytes(self.regions.iter().map(|r| r.len).sum())
    }

    /// Never true: a layout has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of base pages in the RAM file.
    #[must_use]
    pub fn pages(&self) -> u32 {
        u32::try_from(self.len().0 >> PAGE_SHIFT).unwrap_or(u32::MAX)
    }

    /// The region that holds `addr`, if it is RAM.
    #[must_use]
    pub fn region_of(&self, addr: GuestAddr) -> Option<&RamRegion> {
        let after = self.regions.partition_point(|r| r.guest <= addr);
        let r = self.regions.get(after.checked_sub(1)?)?;
        (addr.0 - r.guest.0 < r.len).then_some(r)
    }

    /// RAM-file offset of `len` bytes at `addr`, or `None` unless all of them are RAM of one region.
    #[must_use]
    pub fn offset_of(&self, addr: GuestAddr, len: u64) -> Option<u64> {
        let r = self.region_of(addr)?;
        let into = addr.0 - r.guest.0;
        (len <= r.len - into).then_some(r.offset + into)
    }

    /// The page of the RAM file that backs `pfn`, if it is RAM.
    #[must_use]
    pub fn page_of(&self, pfn: Pfn) -> Option<PageIndex> {
        let addr = pfn.0.checked_shl(PAGE_SHIFT).filter(|a| a >> PAGE_SHIFT == pfn.0)?;
        let offset = self.offset_of(GuestAddr(addr), PAGE_SIZE as u64)?;
        u32::try_from(offset >> PAGE_SHIFT).ok().map(PageIndex)
    }

    /// The guest's number for a page of the RAM file, or `None` past its end.
    #[must_use]
    pub fn pfn_of(&self, page: PageIndex) -> Option<Pfn> {
        let offset = page.offset();
        let after = self.regions.partition_point(|r| r.offset <= offset);
        let r = self.regions.get(after.checked_sub(1)?)?;
        let into = offset - r.offset;
        (into < r.len).then(|| GuestAddr(r.guest.0 + into).pfn())
    }
}

impl TryFrom<Vec<RamRegion>> for RamLayout {
    type Error = LayoutError;

    fn try_from(regions: Vec<RamRegion>) -> Result<Self, LayoutError> {
        Self::new(regions)
    }
}

impl From<RamLayout> for Vec<RamRegion> {
    fn from(layout: RamLayout) -> Self {
        layout.regions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn with_hole() -> RamLayout {
        RamLayout::new(vec![
            RamRegion { guest: GuestAddr(0), offset: 0, len: 2 * GIB },
            RamRegion { guest: GuestAddr(4 * GIB), offset: 2 * GIB, len: 4 * GIB },
        ])
        .unwrap()
    }

    #[test]
    fn pages_above_the_hole_follow_those_below_in_the_ram_file() {
        let l = with_hole();
        let first_above = Pfn(4 * GIB >> PAGE_SHIFT);
        assert_eq!(l.page_of(first_above), Some(PageIndex((2 * GIB >> PAGE_SHIFT) as u32)));
        assert_eq!(l.pfn_of(PageIndex((2 * GIB >> PAGE_SHIFT) as u32)), Some(first_above));
        assert_eq!(l.pages(), (6 * GIB >> PAGE_SHIFT) as u32);
    }

    #[test]
    fn the_hole_and_the_end_are_not_ram() {
        let l = with_hole();
        for addr in [2 * GIB, 4 * GIB - 1, 8 * GIB, u64::MAX] {
            assert_eq!(l.offset_of(GuestAddr(addr), 1), None, "{addr:#x}");
        }
        assert_eq!(l.page_of(Pfn(u64::MAX)), None);
        assert_eq!(l.pfn_of(PageIndex(u32::MAX)), None);
    }

    #[test]
    fn a_range_that_leaves_its_region_is_refused() {
        let l = with_hole();
        assert_eq!(l.offset_of(GuestAddr(2 * GIB - 8), 8), Some(2 * GIB - 8));
        assert_eq!(l.offset_of(GuestAddr(2 * GIB - 8), 9), None);
        assert_eq!(l.offset_of(GuestAddr(0), u64::MAX), None);
    }

    #[test]
    fn broken_region_lists_are_refused() {
        let r = |guest, offset, len| RamRegion { guest: GuestAddr(guest), offset, len };
        assert_eq!(RamLayout::new(vec![]), Err(LayoutError::RegionCount { found: 0 }));
        for bad in [
            vec![r(0, 0, 0)],
            vec![r(1, 0, 4096)],
            vec![r(0, 0, 4097)],
            vec![r(0, 4096, 4096)],
            vec![r(u64::MAX - 4095, 0, 8192)],
        ] {
            assert_eq!(RamLayout::new(bad), Err(LayoutError::BadRegion { index: 0 }));
        }
        let overlap = vec![r(0, 0, 8192), r(4096, 8192, 4096)];
        assert_eq!(RamLayout::new(overlap), Err(LayoutError::BadRegion { index: 1 }));
        assert_eq!(RamLayout::new(vec![r(0, 0, 1 << 43)]), Err(LayoutError::TooLarge));
    }
}
