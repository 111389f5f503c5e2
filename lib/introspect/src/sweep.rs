//! One pass over the page structures of all RAM.

use std::ops::Range;

use dormouse_guest_mem::{PAGE_SHIFT, PAGE_SIZE, PageClass, PageIndex, PageSet, Pfn, RamRegion};

use crate::classify::classify;
use crate::facts::Facts;
use crate::kernel_memory::KernelMemory;
use crate::page_struct::Page;
use crate::page_type::PageType;
use crate::sections::MemMap;
use crate::{ClassMap, SurveyError};

/// What the pass found.
pub(crate) struct Sweep {
    /// Blocks of the free lists.
    pub(crate) buddy: PageSet,
    pub(crate) classes: ClassMap,
    /// Sections of RAM with page structures.
    pub(crate) sections: u32,
}

/// The first read after a jump: one page of structures tells whether the next block can be jumped over too.
const FIRST_READ: usize = PAGE_SIZE;
/// Reads grow to this while nothing is jumped over; it fits the processor's second-level cache.
const LONGEST_READ: usize = 256 << 10;

/// Reads the structure of every page of RAM once, except inside free blocks.
pub(crate) fn sweep(memory: &mut KernelMemory<'_>, facts: &Facts) -> Result<Sweep, SurveyError> {
    let pages = memory.ram.layout().pages();
    let found = Sweep { buddy: PageSet::new(pages), classes: ClassMap::new(pages), sections: 0 };
    let mut sweeper = Sweeper { memory, facts, found, buf: vec![0; LONGEST_READ] };
    for region in sweeper.memory.ram.layout().regions() {
        sweeper.region(region)?;
    }
    Ok(sweeper.found)
}

struct Sweeper<'m, 'a> {
    memory: &'m mut KernelMemory<'a>,
    facts: &'m Facts,
    found: Sweep,
    buf: Vec<u8>,
}

/// Pages of one section within one region of RAM.
#[derive(Clone, Copy)]
struct Stretch {
    mem_map: MemMap,
    /// First page of the region, in both spaces.
    region: (Pfn, PageIndex),
    end: Pfn,
}

impl Stretch {
    /// The page of the RAM file that backs `pfn`, which lies between the region's start and this stretch's end.
    fn index(&self, pfn: Pfn) -> PageIndex {
        let (first, index) = self.region;
        PageIndex(index.0.saturating_add(u32::try_from(pfn.0.saturating_sub(first.0)).unwrap_or(u32::MAX)))
    }
}

impl Sweeper<'_, '_> {
    fn region(&mut self, region: &RamRegion) -> Result<(), SurveyError> {
        let first = region.guest.pfn();
        let end = Pfn(first.0 + (region.len >> PAGE_SHIFT));
        let index = PageIndex(u32::try_from(region.offset >> PAGE_SHIFT).unwrap_or(u32::MAX));
        let mut at = first;
        while at < end {
            let stretch_end = self.facts.sections.end_of(at).min(end);
            let mem_map = self.facts.sections.mem_map(self.memory, at, self.facts.page.size)?;
            if let Some(mem_map) = mem_map {
                self.found.sections += 1;
                self.stretch(at, Stretch { mem_map, region: (first, index), end: stretch_end })?;
            }
            at = stretch_end;
        }
        Ok(())
    }

    fn stretch(&mut self, start: Pfn, stretch: Stretch) -> Result<(), SurveyError> {
        let size = self.facts.page.size;
        // Also the structures that are jumped over lie in pages that cannot be free.
        let span = (stretch.end.0 - start.0) * size as u64;
        self.memory.claim(stretch.mem_map.struct_of(start), span)?;
        let mut buf = std::mem::take(&mut self.buf);
        let (mut at, mut want) = (start, FIRST_READ);
        while at < stretch.end {
            let left = usize::try_from(stretch.end.0 - at.0).unwrap_or(usize::MAX);
            let structs = (want / size).min(left);
            let window = buf.get_mut(..structs * size).unwrap_or_default();
            let extent = self.memory.read(stretch.mem_map.struct_of(at), window)?;
            let whole = extent.filled / size;
            if whole == 0 {
                let hole = (extent.filled as u64 + extent.unmapped).div_ceil(size as u64).max(1);
                at = Pfn(at.0.saturating_add(hole)).min(stretch.end);
                continue;
            }
            let read_to = Pfn(at.0 + whole as u64);
            at = self.structs(at, window.get(..whole * size).unwrap_or_default(), &stretch);
            want = if at > read_to { FIRST_READ } else { (want * 2).min(LONGEST_READ) };
        }
        self.buf = buf;
        Ok(())
    }

    /// Takes the structures of the pages from `first` on; returns the first page that is not accounted for.
    fn structs(&mut self, first: Pfn, bytes: &[u8], stretch: &Stretch) -> Pfn {
        let facts = self.facts;
        let mut jump_to = first;
        let mut seen = 0;
        for (pfn, bytes) in (first.0..).map(Pfn).zip(bytes.chunks_exact(facts.page.size)) {
            if pfn < jump_to {
                continue;
            }
            seen += 1;
            let block = self.page(pfn, facts.page.decode(bytes), stretch);
            jump_to = block.end;
        }
        self.memory.ram.count_struct_pages(seen);
        jump_to
    }

    /// Accounts for the page, or the free block that it heads.
    fn page(&mut self, pfn: Pfn, page: Page<'_>, stretch: &Stretch) -> Range<Pfn> {
        let one = pfn..Pfn(pfn.0 + 1);
        let at = stretch.index(pfn);
        if let Some(head) = page.head() {
            self.found.classes.set(at, self.class_of_head(pfn, head, stretch));
            return one;
        }
        if let Some(block) = free_block(pfn, page, self.facts.max_order, stretch.end) {
            let range = at.0..stretch.index(block.end).0;
            self.found.buddy.insert_range(range.clone());
            self.found.classes.set_range(range, PageClass::Free);
            return block;
        }
        self.found.classes.set(at, classify(page));
        one
    }

    /// A tail is what its head is. A head that is not before it in the same region, or not in use, is no head.
    fn class_of_head(&self, tail: Pfn, head: u64, stretch: &Stretch) -> PageClass {
        let head = stretch.mem_map.page_of(head).filter(|h| (stretch.region.0..tail).contains(h));
        match head.map(|h| self.found.classes.get(stretch.index(h))) {
            None | Some(PageClass::Unknown | PageClass::Free | PageClass::Offline) => PageClass::Kernel,
            Some(class) => class,
        }
    }
}

/// The free block that `page` heads. A mark that no block on the free lists can have is not believed: such a page
/// counts as used.
fn free_block(pfn: Pfn, page: Page<'_>, max_order: u8, end: Pfn) -> Option<Range<Pfn>> {
    if page.page_type() != PageType::Buddy || page.refcount() != 0 || page.order() > u64::from(max_order) {
        return None;
    }
    let len = 1u64 << page.order();
    let block_end = Pfn(pfn.0 + len);
    (pfn.0.is_multiple_of(len) && block_end <= end).then_some(pfn..block_end)
}
