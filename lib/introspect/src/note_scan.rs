//! Finding the VMCOREINFO note of a guest that did not tell where it is.

use dormouse_guest_mem::{GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageIndex, RamLayout, RamSource};

use crate::NoteLocation;
use crate::note::{FIRST_KEY, HEADER, content_len};

/// Looks for the note at the start of every populated page, where kernels since 4.13 put it (`alloc_pages_exact` in
/// `crash_save_vmcoreinfo_init`). Returns the first that has a note's header and starts with the kernel's release.
///
/// A guest process can put such bytes into its own memory, so a found note is only as good as the guest. Costs one
/// short read for each populated page; read errors end the search.
#[must_use]
pub fn find_note(ram: &dyn RamSource, layout: &RamLayout) -> Option<NoteLocation> {
    let pages = u64::from(layout.pages());
    let populated = ram.populated().ok()?;
    let page_numbers = populated.iter().flat_map(|range| {
        let first = range.start / PAGE_SIZE as u64;
        first..range.end.div_ceil(PAGE_SIZE as u64).min(pages).max(first)
    });
    for page in page_numbers {
        let mut head = [0u8; HEADER + FIRST_KEY.len()];
        ram.read_at(page * PAGE_SIZE as u64, &mut head).ok()?;
        if let Some(len) = note_len(&head) {
            let pfn = layout.pfn_of(PageIndex(u32::try_from(page).ok()?))?;
            let addr = GuestAddr(pfn.0 << PAGE_SHIFT);
            return Some(NoteLocation { addr, len });
        }
    }
    None
}

fn note_len(head: &[u8]) -> Option<u64> {
    let (header, content) = head.split_first_chunk::<HEADER>()?;
    let len = u64::from(content_len(header).ok()?) + HEADER as u64;
    (content.starts_with(FIRST_KEY) && len <= NoteLocation::MAX_LEN).then_some(len)
}
