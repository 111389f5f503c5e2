//! Building x86_64 page tables.

use std::collections::BTreeMap;

use dormouse_guest_mem::{GuestAddr, PAGE_SIZE};

/// `PAGE_OFFSET` without KASLR.
pub(super) fn direct_map(levels: u8) -> u64 {
    if levels == 5 { 0xff11_0000_0000_0000 } else { 0xffff_8880_0000_0000 }
}

/// `VMEMMAP_START` without KASLR.
pub(super) fn vmemmap(levels: u8) -> u64 {
    if levels == 5 { 0xffd4_0000_0000_0000 } else { 0xffff_ea00_0000_0000 }
}

const PRESENT_WRITABLE: u64 = 0b11;
const HUGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Page tables in the pages from the root on.
pub(super) struct Tables {
    root: GuestAddr,
    next: GuestAddr,
    levels: u8,
    /// By address, then index.
    entries: BTreeMap<u64, BTreeMap<u64, u64>>,
}

impl Tables {
    pub(super) fn new(root: GuestAddr, levels: u8) -> Self {
        let next = GuestAddr(root.0 + PAGE_SIZE as u64);
        Self { root, next, levels, entries: BTreeMap::from([(root.0, BTreeMap::new())]) }
    }

    /// Maps `va` to `addr` by an entry of `level`: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB.
    pub(super) fn map(&mut self, va: u64, addr: GuestAddr, level: u8) {
        let index = |level: u8| va >> (12 + 9 * u32::from(level - 1)) & 511;
        let mut table = self.root.0;
        for upper in (level + 1..=self.levels).rev() {
            let next = self.next.0;
            let entries = self.entries.entry(table).or_default();
            let entry = *entries.entry(index(upper)).or_insert(next | PRESENT_WRITABLE);
            table = entry & !0xfff;
            if table == next {
                self.next.0 += PAGE_SIZE as u64;
            }
        }
        let huge = if level > 1 { HUGE } else { 0 };
        let entry = addr.0 | PRESENT_WRITABLE | NO_EXECUTE | huge;
        self.entries.entry(table).or_default().insert(index(level), entry);
    }

    pub(super) fn into_pages(self) -> impl Iterator<Item = (GuestAddr, Vec<u8>)> {
        self.entries.into_iter().map(|(addr, entries)| {
            let entry = |i| entries.get(&i).copied().unwrap_or(0).to_le_bytes();
            (GuestAddr(addr), (0..512).flat_map(entry).collect())
        })
    }
}
