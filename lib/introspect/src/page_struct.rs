//! Decoding a `struct page`.

use crate::SurveyError;
use crate::fact_list::FactList;
use crate::page_type::{PageType, PageTypes};

/// Where the fields of this kernel's `struct page` are; every one lies within the structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageStruct {
    pub(crate) size: usize,
    flags_at: usize,
    mapping_at: usize,
    compound_head_at: usize,
    private_at: usize,
    mapcount_at: usize,
    refcount_at: usize,
    types: PageTypes,
    /// `PG_slab` as a mask: the mark of slab pages up to 6.9, later a page type.
    slab_flag: u64,
    /// `PG_swapbacked` as a mask: anonymous memory and tmpfs.
    swapbacked_flag: u64,
}

/// The fields of one `struct page`, as they stand there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'b> {
    layout: &'b PageStruct,
    bytes: &'b [u8],
}

impl PageStruct {
    pub(crate) fn from_note(list: &FactList<'_>) -> Result<Self, SurveyError> {
        // 64 bytes on x86_64; 56 without memory cgroups, more with debugging options.
        let size = list.count("SIZE(page)", 32..=256)?;
        if !size.is_multiple_of(8) {
            return Err(SurveyError::implausible_number("SIZE(page)", size));
        }
        let field = |key, len: u64| {
            let at = list.count(key, ..=size - len)?;
            let aligned = at.is_multiple_of(len).then(|| usize::try_from(at).ok()).flatten();
            aligned.ok_or_else(|| SurveyError::implausible_number(key, at))
        };
        let flag = |key| match list.optional_number(key)? {
            None => Ok(0),
            Some(bit @ 0..=63) => Ok(1u64 << bit),
            Some(other) => Err(SurveyError::implausible_number(key, other)),
        };
        Ok(Self {
            size: usize::try_from(size).unwrap_or(0),
            flags_at: field("OFFSET(page.flags)", 8)?,
            mapping_at: field("OFFSET(page.mapping)", 8)?,
            compound_head_at: field("OFFSET(page.compound_head)", 8)?,
            private_at: field("OFFSET(page.private)", 8)?,
            mapcount_at: field("OFFSET(page._mapcount)", 4)?,
            refcount_at: field("OFFSET(page._refcount)", 4)?,
            types: PageTypes::from_note(list)?,
            slab_flag: flag("NUMBER(PG_slab)")?,
            swapbacked_flag: flag("NUMBER(PG_swapbacked)")?,
        })
    }

    /// The structure at the start of `bytes`; missing bytes read as zero.
    pub(crate) fn decode<'b>(&'b self, bytes: &'b [u8]) -> Page<'b> {
        Page { layout: self, bytes }
    }
}

impl Page<'_> {
    pub(crate) fn page_type(self) -> PageType {
        self.layout.types.decode(self.u32(self.layout.mapcount_at))
    }

    /// Of the head of a free block: log2 of its length in pages.
    pub(crate) fn order(self) -> u64 {
        self.u64(self.layout.private_at)
    }

    pub(crate) fn refcount(self) -> i32 {
        self.u32(self.layout.refcount_at).cast_signed()
    }

    pub(crate) fn mapping(self) -> u64 {
        self.u64(self.layout.mapping_at)
    }

    pub(crate) fn is_slab(self) -> bool {
        self.u64(self.layout.flags_at) & self.layout.slab_flag != 0
    }

    pub(crate) fn is_swapbacked(self) -> bool {
        self.u64(self.layout.flags_at) & self.layout.swapbacked_flag != 0
    }

    /// Of a compound page's tail: the virtual address of its head's structure. Bit 0 is the mark.
    pub(crate) fn head(self) -> Option<u64> {
        let field = self.u64(self.layout.compound_head_at);
        (field & 1 == 1).then_some(field & !1)
    }

    fn u64(self, at: usize) -> u64 {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
    }

    fn u32(self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    }
}
