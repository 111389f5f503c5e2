//! The kernel's table of memory sections: where each section's page structures are.

use dormouse_guest_mem::{PAGE_SHIFT, PAGE_SIZE, Pfn};

use crate::SurveyError;
use crate::facts::SectionFacts;
use crate::kernel_memory::KernelMemory;
use crate::page_table::VirtAddr;

/// `SECTION_MARKED_PRESENT` and `SECTION_HAS_MEM_MAP` (`include/linux/mmzone.h`).
const PRESENT: u64 = 0b11;
/// Flags of `section_mem_map`; kernels use up to six bits, and the address is page aligned.
const FLAGS: u64 = PAGE_SIZE as u64 - 1;

/// Where the page structures of one section are: that of page `p` is at `base + p * SIZE(page)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemMap {
    base: u64,
    struct_size: u64,
}

impl SectionFacts {
    /// First page of the section after the one that holds `pfn`.
    pub(crate) fn end_of(&self, pfn: Pfn) -> Pfn {
        Pfn(((pfn.0 >> self.page_bits) + 1) << self.page_bits)
    }

    /// The page structures of the section that holds `pfn`, or `None` if it has none.
    pub(crate) fn mem_map(
        &self,
        memory: &mut KernelMemory<'_>,
        pfn: Pfn,
        struct_size: usize,
    ) -> Result<Option<MemMap>, SurveyError> {
        let per_root = PAGE_SIZE as u64 / self.entry_size;
        let section = pfn.0 >> self.page_bits;
        let (root, entry) = (section / per_root, section % per_root);
        if root >= self.root_count {
            return Ok(None);
        }
        let root_at = self.roots.0.checked_add(root * 8).map(VirtAddr);
        let Some(root) = read(memory, root_at)?.filter(|r| *r != 0) else { return Ok(None) };
        let entry_at = root.checked_add(entry * self.entry_size + self.mem_map_at).map(VirtAddr);
        let encoded = read(memory, entry_at)?.filter(|e| e & PRESENT == PRESENT);
        Ok(encoded.map(|e| MemMap { base: e & !FLAGS, struct_size: struct_size as u64 }))
    }
}

fn read(memory: &mut KernelMemory<'_>, at: Option<VirtAddr>) -> Result<Option<u64>, SurveyError> {
    at.map_or(Ok(None), |at| memory.read_u64(at))
}

impl MemMap {
    /// Where the structure of `pfn` is. The kernel stores the base minus the section's start, which may wrap.
    pub(crate) fn struct_of(&self, pfn: Pfn) -> VirtAddr {
        VirtAddr(self.base.wrapping_add(pfn.0.wrapping_mul(self.struct_size)))
    }

    /// The page whose structure is at `va`.
    pub(crate) fn page_of(&self, va: u64) -> Option<Pfn> {
        let into = va.wrapping_sub(self.base);
        let pfn = into / self.struct_size;
        (into.is_multiple_of(self.struct_size) && pfn <= u64::MAX >> PAGE_SHIFT).then_some(Pfn(pfn))
    }
}
