use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageClass, PageIndex, Pfn, RamLayout};

use super::{QUIET, guest, shapes};
use crate::testing::{Guest, Use};
use crate::{Request, SurveyError, survey};

#[test]
fn a_free_mark_with_a_huge_order_counts_as_used() {
    for order in [11, 52, 63, 64, 1 << 32, u64::MAX] {
        let mut guest = guest();
        guest.free_block(QUIET, order);
        let survey = guest.survey().unwrap();
        assert!(survey.free.is_empty(), "order {order}");
        assert_eq!(survey.classes.get(PageIndex(2048)), PageClass::Kernel);
    }
}

#[test]
fn an_unaligned_free_block_counts_as_used() {
    let mut guest = guest();
    guest.free_block(Pfn(2049), 1);
    guest.free_block(Pfn(2050), 1);
    let free = guest.survey().unwrap().free;
    assert!(free.iter().eq([2050, 2051].map(PageIndex)));
}

#[test]
fn a_free_block_past_the_end_of_its_ram_counts_as_used() {
    // A layout whose lower region ends in the midst of what the kernel calls a block.
    let mut guest = guest();
    guest.free_block(Pfn(5120), 10);
    let mut regions = guest.layout.regions().to_vec();
    regions[0].len -= 4096;
    regions[1].offset -= 4096;
    regions[1].len += 4096;
    guest.layout = RamLayout::new(regions).unwrap();
    let survey = guest.survey().unwrap();
    assert!(survey.free.is_empty());
    assert_eq!(survey.classes.get(PageIndex(5120)), PageClass::Kernel);
}

#[test]
fn a_free_mark_on_a_page_that_somebody_holds_is_not_believed() {
    let mut guest = guest();
    guest.free_block(QUIET, 3);
    guest.set_refcount(QUIET, 1);
    assert!(guest.survey().unwrap().free.is_empty());
}

#[test]
fn a_free_mark_on_a_tail_is_not_believed() {
    let mut guest = guest();
    guest.mark(QUIET, Use::Anonymous);
    guest.free_block(Pfn(2049), 0);
    let head = guest.struct_page_va(QUIET);
    guest.set_head(Pfn(2049), head);
    let survey = guest.survey().unwrap();
    assert!(survey.free.is_empty());
    assert_eq!(survey.classes.get(PageIndex(2049)), PageClass::Anonymous);
}

#[test]
fn a_tail_with_an_impossible_head_is_the_kernels() {
    let mut guest = guest();
    guest.free_block(Pfn(2000), 0);
    guest.mark(Pfn(2001), Use::Offline);
    let va = |pfn| guest.struct_page_va(Pfn(pfn));
    let heads = [0, u64::MAX - 1, va(2048), va(2060), va(2000), va(2001), va(2004) + 8, va(1 << 40)];
    for (tail, head) in (2048..).map(Pfn).zip(heads) {
        guest.set_head(tail, head);
    }
    let survey = guest.survey().unwrap();
    for page in (2048..).take(heads.len()).map(PageIndex) {
        assert_eq!(survey.classes.get(page), PageClass::Kernel, "{page:?}");
    }
    assert_eq!(survey.free.len(), 2);
}

#[test]
fn a_head_in_another_region_of_ram_is_no_head() {
    let mut guest = guest();
    let above = Pfn((4 << 30) >> 12);
    guest.mark(above, Use::Anonymous);
    let below = guest.struct_page_va(Pfn(5));
    let tail = Pfn(above.0 + 8);
    guest.set_head(tail, below);
    let page = guest.layout.page_of(tail).unwrap();
    assert_eq!(guest.survey().unwrap().classes.get(page), PageClass::Kernel);
}

#[test]
fn a_kernel_that_calls_its_own_structures_free_is_not_believed() {
    for shape in shapes().filter(|s| s.hole) {
        let honest = Guest::new(shape);
        for own in honest.own_pages().iter() {
            let pfn = honest.layout.pfn_of(own).unwrap();
            let mut liar = honest.clone();
            if own.0.is_multiple_of(2) {
                liar.mark(pfn, Use::Offline)
            } else {
                liar.free_block(pfn, 0)
            }
            assert_eq!(liar.survey(), Err(SurveyError::OwnStructureFree { page: own }), "{shape:?}");
        }
    }
}

#[test]
fn page_structures_that_were_jumped_over_cannot_be_free_either() {
    let mut guest = guest();
    guest.free_block(Pfn(1024), 10);
    guest.free_block(QUIET, 10);
    // Holds the structures of pages within the second block, which are never read.
    let unread = guest.struct_page(Pfn(QUIET.0 + 256)).pfn();
    guest.free_block(unread, 0);
    let page = guest.layout.page_of(unread).unwrap();
    assert_eq!(guest.survey(), Err(SurveyError::OwnStructureFree { page }));
}

#[test]
fn page_tables_that_point_to_themselves_end() {
    for shape in shapes() {
        let mut guest = Guest::new(shape);
        let root = guest.root_table();
        let entry = (root.0 | 3).to_le_bytes();
        guest.write(root, &entry.repeat(PAGE_SIZE / 8));
        assert_eq!(guest.survey(), Err(SurveyError::NoSections), "{shape:?}");
    }
}

#[test]
fn page_tables_outside_ram_lead_nowhere() {
    let mut guest = guest();
    let entry = ((1u64 << 45) | 3).to_le_bytes();
    guest.write(guest.root_table(), &entry.repeat(PAGE_SIZE / 8));
    assert_eq!(guest.survey(), Err(SurveyError::NoSections));
    guest.set_fact("SYMBOL(swapper_pg_dir)", "ffffffffa0000000");
    assert_eq!(guest.survey(), Err(SurveyError::NoSections));
}

#[test]
fn sections_without_mapped_structures_are_not_enough() {
    let mut guest = guest();
    for pfn in [0, 4096, 4 << 30 >> 12].map(Pfn) {
        let entry = guest.section_entry(pfn);
        guest.write(entry, &0xffff_c000_0000_000f_u64.to_le_bytes());
    }
    assert_eq!(guest.survey(), Err(SurveyError::NoPageStructs));
}

#[test]
fn sections_past_the_end_of_their_table_do_not_exist() {
    let mut guest = guest();
    assert_eq!(guest.survey().unwrap().kernel.sections, 3);
    guest.set_fact("LENGTH(mem_section)", "1");
    assert_eq!(guest.survey().unwrap().kernel.sections, 2);
}

#[test]
fn sections_that_share_their_structures_cost_no_more_than_others() {
    let mut guest = guest();
    let honest = guest.survey().unwrap();
    // The second section's structures are said to be those of the first.
    let base = guest.struct_page_va(Pfn(0)).wrapping_sub(4096 * 64);
    let entry = guest.section_entry(Pfn(4096));
    guest.write(entry, &(base | 0b1111).to_le_bytes());
    let liar = guest.survey().unwrap();
    assert_eq!(liar.work.struct_pages_read, honest.work.struct_pages_read);
}

#[test]
fn more_free_pages_than_the_agent_counted_are_not_believed() {
    let mut guest = guest();
    for block in 2..6 {
        guest.free_block(Pfn(block * 1024), 10);
    }
    guest.free_block(Pfn(1024), 8);
    let free = Bytes::mib(17);
    let with = |mem_free| survey(&Request { mem_free: Some(mem_free), ..guest.request() });
    assert_eq!(with(Bytes::mib(1)).unwrap().free.bytes(), free);
    let reported = Bytes(Bytes::mib(1).0 - 1);
    assert_eq!(with(reported), Err(SurveyError::MoreFreeThanReported { free, reported }));
}

#[test]
fn a_guest_of_which_all_is_free_is_not_believed() {
    let mut guest = guest();
    for pfn in guest.pfns().into_iter().step_by(1024) {
        guest.free_block(pfn, 10);
    }
    assert!(matches!(guest.survey(), Err(SurveyError::TooMuchFree { .. })));
}

#[test]
fn a_layout_that_does_not_fit_the_ram_file_is_refused() {
    let mut guest = guest();
    let mut regions = guest.layout.regions().to_vec();
    regions[1].len -= 4096;
    guest.layout = RamLayout::new(regions).unwrap();
    assert_eq!(guest.survey(), Err(SurveyError::RamSize { file: 32 << 20, layout: (32 << 20) - 4096 }));
}

#[test]
fn addresses_at_the_end_of_the_address_space_do_not_wrap() {
    let mut guest = guest();
    let entry = guest.section_entry(Pfn(0));
    for base in [u64::MAX, !0xfffu64 | 3, 0x7fff_ffff_ffff_f003] {
        guest.write(GuestAddr(entry.0), &base.to_le_bytes());
        assert!(guest.survey().unwrap().free.is_empty());
    }
}
