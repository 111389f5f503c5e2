//! Walking the kernel's x86_64 page tables (Intel SDM volume 3, 4-level and 5-level paging).

use dormouse_guest_mem::{GuestAddr, PAGE_SIZE};

use crate::SurveyError;
use crate::ram::{Ram, Reached};

/// A guest kernel virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VirtAddr(pub(crate) u64);

/// The kernel's address space by its top-level page table.
pub(crate) struct AddressSpace {
    root: GuestAddr,
    levels: u8,
    /// The table last used at each level: neighbouring addresses share all but the last steps.
    cache: Vec<Option<Table>>,
}

struct Table {
    addr: GuestAddr,
    bytes: Box<[u8; PAGE_SIZE]>,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// To guest physical `addr`; the mapping goes on for `left` bytes from there.
    Mapped { addr: GuestAddr, left: u64 },
    /// Nowhere, and so do the next `left` bytes.
    Unmapped { left: u64 },
}

const PRESENT: u64 = 1;
/// In an entry of the 2 MiB or 1 GiB level: the walk ends here.
const PAGE_SIZE_BIT: u64 = 1 << 7;
/// Bits 51 to 12 of an entry; those above are flags.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Levels, counted from 1 at the bottom, at which [`PAGE_SIZE_BIT`] has a meaning.
const HUGE_LEVELS: std::ops::RangeInclusive<u8> = 2..=3;

impl AddressSpace {
    /// `levels` is 4 or 5.
    pub(crate) fn new(root: GuestAddr, levels: u8) -> Self {
        Self { root, levels, cache: (0..levels).map(|_| None).collect() }
    }

    /// Follows the tables for `va`: at most one table for each level is read.
    pub(crate) fn walk(&mut self, ram: &mut Ram<'_>, va: VirtAddr) -> Result<Walk, SurveyError> {
        let mut table = self.root;
        for level in (1..=self.levels).rev() {
            let shift = 12 + 9 * u32::from(level - 1);
            let into = va.0 & ((1u64 << shift) - 1);
            let left = (1u64 << shift) - into;
            let entry = self.entry(ram, level, table, va.0 >> shift & 511)?;
            if entry & PRESENT == 0 {
                return Ok(Walk::Unmapped { left });
            }
            let base = entry & ADDRESS;
            if level == 1 || (HUGE_LEVELS.contains(&level) && entry & PAGE_SIZE_BIT != 0) {
                // The low address bits of a huge entry hold flags (PAT), not address.
                let base = base >> shift << shift;
                return Ok(Walk::Mapped { addr: GuestAddr(base | into), left });
            }
            table = GuestAddr(base);
        }
        Ok(Walk::Unmapped { left: PAGE_SIZE as u64 })
    }

    /// A table outside RAM has no entries.
    fn entry(&mut self, ram: &mut Ram<'_>, level: u8, table: GuestAddr, index: u64) -> Result<u64, SurveyError> {
        let Some(slot) = self.cache.get_mut(usize::from(level - 1)) else { return Ok(0) };
        if slot.as_ref().is_none_or(|t| t.addr != table) {
            let mut bytes = Box::new([0u8; PAGE_SIZE]);
            if ram.read(table, bytes.as_mut_slice())? == Reached::NotRam {
                return Ok(0);
            }
            *slot = Some(Table { addr: table, bytes });
        }
        let entries = slot.as_ref().map(|t| t.bytes.as_chunks::<8>().0).unwrap_or_default();
        Ok(usize::try_from(index).ok().and_then(|i| entries.get(i)).map_or(0, |e| u64::from_le_bytes(*e)))
    }
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::{RamLayout, RamRegion};

    use super::*;
    use crate::testing::SparseRam;

    /// Four levels from 0x1000 on, one table each; the entries of address 0 lead down to a 4 KiB page at 0x8000.
    fn tables() -> SparseRam {
        let mut ram = SparseRam::new(0x10000);
        for (at, entry) in [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x8003)] {
            ram.write(at, &u64::to_le_bytes(entry));
        }
        // With the PAT bit, which has the place of an address bit.
        ram.write(0x2008, &(0x4000_1083u64 | 1 << 63).to_le_bytes());
        ram.write(0x3008, &0x0060_1083u64.to_le_bytes());
        ram
    }

    fn walk(va: u64) -> Walk {
        let source = tables();
        let layout = RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len: 0x10000 }]).unwrap();
        let mut ram = Ram::new(&source, &layout).unwrap();
        AddressSpace::new(GuestAddr(0x1000), 4).walk(&mut ram, VirtAddr(va)).unwrap()
    }

    #[test]
    fn a_walk_ends_at_small_large_and_huge_pages() {
        assert_eq!(walk(0x123), Walk::Mapped { addr: GuestAddr(0x8123), left: 0xedd });
        assert_eq!(walk(0x20_0123), Walk::Mapped { addr: GuestAddr(0x60_0123), left: 0x1f_fedd });
        assert_eq!(walk(0x4000_0123), Walk::Mapped { addr: GuestAddr(0x4000_0123), left: 0x3fff_fedd });
    }

    #[test]
    fn a_walk_that_leads_nowhere_says_how_far() {
        assert_eq!(walk(0x1123), Walk::Unmapped { left: 0xedd });
        assert_eq!(walk(0x8000_0000), Walk::Unmapped { left: 0x4000_0000 });
        assert_eq!(walk(1 << 39), Walk::Unmapped { left: 1 << 39 });
    }
}
