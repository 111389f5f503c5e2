//! Comparing guest memory, and asking the guest itself about its pages.

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamLayout, RamSource};

use crate::Guest;

/// All of a paused guest's RAM.
pub fn ram_bytes(ram: &dyn RamSource) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(ram.len()).expect("RAM fits into memory")];
    ram.read_at(0, &mut bytes).expect("read the RAM");
    bytes
}

/// The pages in which two RAM files differ, except those in `left_out`.
#[must_use]
pub fn differences(a: &[u8], b: &[u8], left_out: &PageSet) -> Vec<PageIndex> {
    assert_eq!(a.len(), b.len(), "RAM files of different size");
    let pages = a.chunks(PAGE_SIZE).zip(b.chunks(PAGE_SIZE)).zip(0u32..);
    pages.filter(|((x, y), page)| x != y && !left_out.contains(PageIndex(*page))).map(|(_, p)| PageIndex(p)).collect()
}

/// `KPF_BUDDY` of the kernel's `include/uapi/linux/kernel-page-flags.h`.
const KPF_BUDDY: u64 = 1 << 10;

/// What the guest's own `/proc/kpageflags` says now: the flags by page of the RAM file, and the pages on the page
/// allocator's free lists.
pub async fn oracle_buddy(guest: &Guest, layout: &RamLayout) -> (Vec<u64>, PageSet) {
    let out = guest.run("cat /proc/kpageflags").await;
    assert_eq!(out.code, 0, "{}", out.stderr);
    let by_pfn: Vec<u64> = out.stdout.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    let mut flags = vec![0; layout.pages() as usize];
    let mut buddy = PageSet::new(layout.pages());
    for page in (0..layout.pages()).map(PageIndex) {
        let pfn = layout.pfn_of(page).expect("a page of RAM").0;
        let Some(of_page) = by_pfn.get(usize::try_from(pfn).expect("a small number")) else { continue };
        flags[page.0 as usize] = *of_page;
        if of_page & KPF_BUDDY != 0 {
            buddy.insert(page);
        }
    }
    (flags, buddy)
}
