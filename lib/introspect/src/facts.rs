//! What the survey needs to know of a kernel, out of its VMCOREINFO note, checked for plausibility.

use dormouse_guest_mem::{GuestAddr, PAGE_SIZE};

use crate::SurveyError;
use crate::fact_list::FactList;
use crate::page_struct::PageStruct;
use crate::page_table::VirtAddr;

/// Where the kernel image is mapped (`__START_KERNEL_map`, `arch/x86/include/asm/page_64_types.h`). KASLR moves the
/// image within this mapping, never the mapping.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Free lists exist for blocks of up to 2^10 pages (`MAX_PAGE_ORDER`).
const MAX_ORDER: u64 = 10;

/// A guest kernel's layout. Every value is within the range that real kernels use; none is proven.
pub(crate) struct Facts {
    pub(crate) release: String,
    /// `swapper_pg_dir`, the kernel's top-level page table.
    pub(crate) root_table: GuestAddr,
    pub(crate) page_table_levels: u8,
    pub(crate) sections: SectionFacts,
    pub(crate) page: PageStruct,
    /// Largest order of a block on the free lists.
    pub(crate) max_order: u8,
}

/// The table of memory sections of `CONFIG_SPARSEMEM_EXTREME` (`mm/sparse.c`).
#[derive(Clone, Copy)]
pub(crate) struct SectionFacts {
    /// Array of pointers to pages full of `struct mem_section`.
    pub(crate) roots: VirtAddr,
    pub(crate) root_count: u64,
    pub(crate) entry_size: u64,
    /// Offset of `section_mem_map` in an entry.
    pub(crate) mem_map_at: u64,
    /// log2 of a section's length in pages.
    pub(crate) page_bits: u32,
}

impl Facts {
    pub(crate) fn from_note(content: &[u8]) -> Result<Self, SurveyError> {
        let list = FactList::parse(content);
        if list.optional_number("NUMBER(sme_mask)")?.is_some_and(|mask| mask != 0) {
            return Err(SurveyError::implausible("NUMBER(sme_mask)", list.text("NUMBER(sme_mask)")?));
        }
        list.count("PAGESIZE", PAGE_SIZE as u64..=PAGE_SIZE as u64)?;
        Ok(Self {
            release: release(&list)?,
            root_table: root_table(&list)?,
            page_table_levels: page_table_levels(&list)?,
            sections: SectionFacts::from_list(&list)?,
            page: PageStruct::from_note(&list)?,
            max_order: max_order(&list)?,
        })
    }
}

fn release(list: &FactList<'_>) -> Result<String, SurveyError> {
    // `__NEW_UTS_LEN`, include/uapi/linux/utsname.h
    const MAX: usize = 64;
    let text = list.text("OSRELEASE")?;
    let plausible = (1..=MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    plausible.then(|| text.to_owned()).ok_or_else(|| SurveyError::implausible("OSRELEASE", text))
}

fn root_table(list: &FactList<'_>) -> Result<GuestAddr, SurveyError> {
    const KEY: &str = "SYMBOL(swapper_pg_dir)";
    let symbol = list.symbol(KEY)?;
    let phys_base = list.number("NUMBER(phys_base)")?;
    let addr = symbol.checked_sub(KERNEL_MAP).and_then(|o| o.checked_add_signed(phys_base)).map(GuestAddr);
    let aligned = addr.filter(|a| a.0.is_multiple_of(PAGE_SIZE as u64));
    aligned.ok_or_else(|| SurveyError::implausible_addr(KEY, GuestAddr(symbol)))
}

fn page_table_levels(list: &FactList<'_>) -> Result<u8, SurveyError> {
    const KEY: &str = "NUMBER(pgtable_l5_enabled)";
    match list.optional_number(KEY)? {
        None | Some(0) => Ok(4),
        Some(1) => Ok(5),
        Some(other) => Err(SurveyError::implausible_number(KEY, other)),
    }
}

fn max_order(list: &FactList<'_>) -> Result<u8, SurveyError> {
    let lists = list.count("LENGTH(zone.free_area)", 1..=64)?;
    Ok(u8::try_from((lists - 1).min(MAX_ORDER)).unwrap_or(0))
}

impl SectionFacts {
    fn from_list(list: &FactList<'_>) -> Result<Self, SurveyError> {
        const ROOTS: &str = "SYMBOL(mem_section)";
        // With SPARSEMEM_EXTREME the note has the value of the pointer, which is in the direct mapping; an address
        // in the kernel image means a static table, which no x86_64 distribution kernel has.
        let roots = list.symbol(ROOTS)?;
        if !(1 << 63..KERNEL_MAP).contains(&roots) || !roots.is_multiple_of(8) {
            return Err(SurveyError::implausible_addr(ROOTS, GuestAddr(roots)));
        }
        let entry_size = list.count("SIZE(mem_section)", 8..=256)?;
        // x86_64 uses 27: sections of 128 MiB.
        let bits = list.count("NUMBER(SECTION_SIZE_BITS)", 24..=34)?;
        Ok(Self {
            roots: VirtAddr(roots),
            root_count: list.count("LENGTH(mem_section)", 1..=1 << 24)?,
            entry_size,
            mem_map_at: list.count("OFFSET(mem_section.section_mem_map)", ..=entry_size - 8)?,
            page_bits: u32::try_from(bits).unwrap_or(0).saturating_sub(12),
        })
    }
}
