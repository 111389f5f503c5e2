//! A synthetic guest: the few pages of RAM in which a kernel describes itself, for tests and fuzzing.
//!
//! It is laid out as real kernels do it, but small: sections of 16 MiB, page structures partly in 2 MiB and partly in
//! 4 KiB mappings. Everything may be overwritten afterwards to make it lie.
#![expect(clippy::expect_used, reason = "a wrongly built guest should fail loudly")]

mod note_text;
mod page_marks;
mod sparse_ram;
mod tables;

use std::fmt;

use dormouse_guest_mem::{GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageSet, Pfn, RamLayout, RamRegion};

use crate::{NoteLocation, Request, Survey, SurveyError, survey};
use note_text::NoteText;
pub use page_marks::Use;
pub use sparse_ram::SparseRam;
use tables::Tables;

/// What kind of guest to build.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// 4 or 5.
    pub page_table_levels: u8,
    /// Whether page types are written as from 6.12 on, else as in 6.1.
    pub top_byte_types: bool,
    /// Whether a part of RAM lies above 4 GiB.
    pub hole: bool,
}

/// A paused guest. Initially every page is in use by the kernel.
#[derive(Clone)]
pub struct Guest {
    /// Its RAM.
    pub ram: SparseRam,
    /// Where that RAM lies.
    pub layout: RamLayout,
    shape: Shape,
    note: NoteText,
    own: PageSet,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("shape", &self.shape).finish_non_exhaustive()
    }
}

const MIB: u64 = 1 << 20;
/// Where the kernel image is mapped.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// What KASLR added to physical addresses; the note must be used to undo it.
const PHYS_BASE: i64 = -0x200_0000;
/// log2 of a section's size.
const SECTION_BITS: u32 = 24;
/// `SIZE(page)`.
const STRUCT_SIZE: u64 = 64;

/// Physical addresses of the kernel's structures.
const NOTE: GuestAddr = GuestAddr(16 << PAGE_SHIFT);
const TABLES: GuestAddr = GuestAddr(17 << PAGE_SHIFT);
const ROOTS: GuestAddr = GuestAddr(64 << PAGE_SHIFT);
const SECTIONS: GuestAddr = GuestAddr(65 << PAGE_SHIFT);
const HIGH_STRUCTS: GuestAddr = GuestAddr(128 << PAGE_SHIFT);
const LOW_STRUCTS: GuestAddr = GuestAddr(2 * MIB);

/// First page above the hole.
const HIGH: Pfn = Pfn((4 << 30) >> PAGE_SHIFT);

impl Guest {
    /// 32 MiB of RAM; with a hole, 8 MiB of it lie above 4 GiB.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let low = if shape.hole { 24 * MIB } else { 32 * MIB };
        let mut regions = vec![RamRegion { guest: GuestAddr(0), offset: 0, len: low }];
        if shape.hole {
            regions.push(RamRegion { guest: GuestAddr(4 << 30), offset: low, len: 8 * MIB });
        }
        let layout = RamLayout::new(regions).expect("regions in order");
        let pages = layout.pages();
        let note = NoteText::new(shape);
        let mut guest = Self { ram: SparseRam::new(32 * MIB), layout, shape, note, own: PageSet::new(pages) };
        guest.write_note();
        guest.map_memory();
        guest.list_sections();
        for pfn in guest.pfns() {
            guest.mark(pfn, Use::Kernel);
        }
        guest
    }

    /// Where the guest says its note lies.
    #[must_use]
    pub fn note(&self) -> NoteLocation {
        NoteLocation { addr: NOTE, len: 0x1024 }
    }

    /// The pages in which the kernel's own structures lie: note, page tables, sections, page structures.
    #[must_use]
    pub fn own_pages(&self) -> &PageSet {
        &self.own
    }

    /// Every page of RAM by the guest's number, ascending.
    #[must_use]
    pub fn pfns(&self) -> Vec<Pfn> {
        let regions = self.layout.regions().iter();
        regions.flat_map(|r| (r.guest.0 >> PAGE_SHIFT..(r.guest.0 + r.len) >> PAGE_SHIFT).map(Pfn)).collect()
    }

    /// A request for a survey of this guest with its own note location.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request { ram: &self.ram, layout: &self.layout, note: Some(self.note()), mem_free: None }
    }

    /// Surveys this guest.
    ///
    /// # Errors
    /// Those of [`survey`].
    pub fn survey(&self) -> Result<Survey, SurveyError> {
        survey(&self.request())
    }

    /// Replaces a line of the note, or adds it.
    pub fn set_fact(&mut self, key: &str, value: &str) {
        self.note.set(key, value);
        self.write_note();
    }

    /// Takes a line out of the note.
    pub fn remove_fact(&mut self, key: &str) {
        self.note.remove(key);
        self.write_note();
    }

    /// Overwrites RAM. What is not RAM is left out.
    pub fn write(&mut self, addr: GuestAddr, bytes: &[u8]) {
        if let Some(offset) = self.layout.offset_of(addr, bytes.len() as u64) {
            self.ram.write(offset, bytes);
        }
    }

    /// Where the kernel's top-level page table lies.
    #[must_use]
    pub fn root_table(&self) -> GuestAddr {
        TABLES
    }

    /// Where the entry of the memory section of `pfn` lies.
    #[must_use]
    pub fn section_entry(&self, pfn: Pfn) -> GuestAddr {
        // Entries of 16 bytes; all sections up to 4 GiB are in the first page, those above in the second.
        GuestAddr(SECTIONS.0 + (pfn.0 >> (SECTION_BITS - PAGE_SHIFT)) * 16)
    }

    /// Where the structure of `pfn`, a page of RAM, lies.
    #[must_use]
    pub fn struct_page(&self, pfn: Pfn) -> GuestAddr {
        match pfn.0.checked_sub(HIGH.0) {
            Some(above) => GuestAddr(HIGH_STRUCTS.0 + above * STRUCT_SIZE),
            None => GuestAddr(LOW_STRUCTS.0 + pfn.0 * STRUCT_SIZE),
        }
    }

    /// The virtual address of the structure of `pfn`; for absurd numbers it wraps.
    #[must_use]
    pub fn struct_page_va(&self, pfn: Pfn) -> u64 {
        tables::vmemmap(self.shape.page_table_levels).wrapping_add(pfn.0.wrapping_mul(STRUCT_SIZE))
    }

    fn write_note(&mut self) {
        let bytes = self.note.bytes();
        self.write_own(NOTE, &bytes);
    }

    fn map_memory(&mut self) {
        let levels = self.shape.page_table_levels;
        let mut tables = Tables::new(TABLES, levels);
        tables.map(tables::direct_map(levels), GuestAddr(0), 3);
        tables.map(tables::vmemmap(levels), LOW_STRUCTS, 2);
        let low = self.layout.regions().first().map_or(0, |r| r.len);
        self.own_range(LOW_STRUCTS, (low >> PAGE_SHIFT) * STRUCT_SIZE);
        if self.shape.hole {
            let len = ((8 * MIB) >> PAGE_SHIFT) * STRUCT_SIZE;
            for at in (0..len).step_by(PAGE_SIZE) {
                tables.map(self.struct_page_va(HIGH) + at, GuestAddr(HIGH_STRUCTS.0 + at), 1);
            }
            self.own_range(HIGH_STRUCTS, len);
        }
        for (addr, table) in tables.into_pages() {
            self.write_own(addr, &table);
        }
    }

    fn list_sections(&mut self) {
        let va = |addr: GuestAddr| tables::direct_map(self.shape.page_table_levels) + addr.0;
        let (first, second) = (va(SECTIONS), va(SECTIONS) + PAGE_SIZE as u64);
        self.write_own(ROOTS, &[first.to_le_bytes(), second.to_le_bytes()].concat());
        let base = tables::vmemmap(self.shape.page_table_levels);
        // Present, has a memory map, online, early.
        let entry = (base | 0b1111).to_le_bytes();
        for region in self.layout.regions().to_vec() {
            let end = (region.guest.0 + region.len).div_ceil(1 << SECTION_BITS);
            for section in region.guest.0 >> SECTION_BITS..end {
                let pfn = Pfn(section << (SECTION_BITS - PAGE_SHIFT));
                self.write_own(self.section_entry(pfn), &entry);
            }
        }
    }

    fn write_own(&mut self, addr: GuestAddr, bytes: &[u8]) {
        self.write(addr, bytes);
        self.own_range(addr, bytes.len() as u64);
    }

    fn own_range(&mut self, addr: GuestAddr, len: u64) {
        for pfn in addr.0 >> PAGE_SHIFT..(addr.0 + len).div_ceil(PAGE_SIZE as u64) {
            self.own.insert(self.layout.page_of(Pfn(pfn)).expect("structures are in RAM"));
        }
    }
}
