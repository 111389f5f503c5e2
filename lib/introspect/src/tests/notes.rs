use dormouse_guest_mem::{GuestAddr, PAGE_SIZE, Pfn};

use super::{QUIET, guest};
use crate::testing::SparseRam;
use crate::{NoteLocation, Request, SurveyError, find_note, survey};

#[test]
fn a_note_that_nobody_named_is_found_by_searching() {
    let mut guest = guest();
    guest.free_block(QUIET, 4);
    let found = find_note(&guest.ram, &guest.layout).unwrap();
    assert_eq!(found.addr, guest.note().addr);
    let searched = survey(&Request { note: None, ..guest.request() }).unwrap();
    assert_eq!(searched.free, guest.survey().unwrap().free);
}

#[test]
fn the_search_passes_over_notes_that_no_kernel_wrote() {
    let mut guest = guest();
    guest.write(GuestAddr(8 << 12), b"\x0b\0\0\0\x10\0\0\0\0\0\0\0VMCOREINFO\0\0SOMETHING=else");
    assert_eq!(find_note(&guest.ram, &guest.layout).unwrap().addr, guest.note().addr);
}

#[test]
fn a_guest_without_a_note_has_none() {
    let guest = guest();
    let empty = SparseRam::new(guest.layout.len().0);
    assert_eq!(find_note(&empty, &guest.layout), None);
    let request = Request { ram: &empty, note: None, ..guest.request() };
    assert_eq!(survey(&request), Err(SurveyError::NoNote));
}

#[test]
fn a_named_place_without_a_note_is_refused() {
    let guest = guest();
    let location = NoteLocation { addr: GuestAddr(0x200_0000 / 2), len: 0x1024 };
    let result = survey(&Request { note: Some(location), ..guest.request() });
    assert!(matches!(result, Err(SurveyError::NotANote { .. })), "{result:?}");
}

#[test]
fn a_note_outside_ram_or_too_long_is_refused() {
    let guest = guest();
    let end_of_low = 24 << 20;
    for (addr, len) in [(end_of_low, 100), (end_of_low - 8, 100), (u64::MAX, 100), (65536, 65537), (65536, u64::MAX)] {
        let location = NoteLocation { addr: GuestAddr(addr), len };
        let result = survey(&Request { note: Some(location), ..guest.request() });
        assert_eq!(result, Err(SurveyError::NoteOutsideRam { location }));
    }
}

#[test]
fn a_note_longer_than_the_room_for_it_is_refused() {
    let mut guest = guest();
    let location = guest.note();
    guest.write(GuestAddr(location.addr.0 + 4), &0x1024u32.to_le_bytes());
    assert!(matches!(guest.survey(), Err(SurveyError::NotANote { .. })));
    guest.write(GuestAddr(location.addr.0 + 4), &u32::MAX.to_le_bytes());
    assert!(matches!(guest.survey(), Err(SurveyError::NotANote { .. })));
    assert_eq!(find_note(&guest.ram, &guest.layout), None);
}

#[test]
fn a_note_with_another_header_or_first_line_is_none_however_good_the_rest() {
    let header = guest().note().addr.0;
    for (at, bytes) in [(0, [12, 0, 0, 0]), (8, [1, 0, 0, 0]), (12, *b"vmco")] {
        let mut guest = guest();
        guest.write(GuestAddr(header + at), &bytes);
        assert!(matches!(guest.survey(), Err(SurveyError::NotANote { .. })), "{bytes:?}");
    }
    let mut guest = guest();
    guest.remove_fact("OSRELEASE");
    guest.set_fact("OSRELEASE", "6.1.0");
    assert!(matches!(guest.survey(), Err(SurveyError::NotANote { .. })));
}

#[test]
fn a_note_of_random_bytes_is_refused() {
    let mut guest = guest();
    let noise: Vec<u8> = (0u32..4096).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let content = GuestAddr(guest.note().addr.0 + 24);
    guest.write(content, b"OSRELEASE=6.1.0\n");
    guest.write(GuestAddr(content.0 + 16), &noise);
    assert!(matches!(guest.survey(), Err(SurveyError::FactMissing { .. })));
}

#[test]
fn each_needed_fact_is_asked_for_by_name() {
    for key in [
        "PAGESIZE",
        "SYMBOL(swapper_pg_dir)",
        "NUMBER(phys_base)",
        "SYMBOL(mem_section)",
        "LENGTH(mem_section)",
        "SIZE(mem_section)",
        "OFFSET(mem_section.section_mem_map)",
        "NUMBER(SECTION_SIZE_BITS)",
        "SIZE(page)",
        "OFFSET(page.flags)",
        "OFFSET(page.mapping)",
        "OFFSET(page.compound_head)",
        "OFFSET(page.private)",
        "OFFSET(page._mapcount)",
        "OFFSET(page._refcount)",
        "LENGTH(zone.free_area)",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)",
    ] {
        let mut guest = guest();
        guest.remove_fact(key);
        assert_eq!(guest.survey(), Err(SurveyError::FactMissing { key }));
    }
}

#[test]
fn facts_that_no_kernel_has_are_refused() {
    for (key, value) in [
        ("OSRELEASE", "6.1 evil"),
        ("PAGESIZE", "16384"),
        ("SIZE(page)", "0"),
        ("SIZE(page)", "31"),
        ("SIZE(page)", "60"),
        ("SIZE(page)", "4096"),
        ("SIZE(page)", "18446744073709551616"),
        ("OFFSET(page.private)", "57"),
        ("OFFSET(page.private)", "44"),
        ("OFFSET(page._mapcount)", "61"),
        ("OFFSET(page._refcount)", "-4"),
        ("NUMBER(SECTION_SIZE_BITS)", "23"),
        ("NUMBER(SECTION_SIZE_BITS)", "35"),
        ("SIZE(mem_section)", "0"),
        ("SIZE(mem_section)", "8192"),
        ("OFFSET(mem_section.section_mem_map)", "9"),
        ("LENGTH(mem_section)", "0"),
        ("SYMBOL(mem_section)", "ffffffff81000000"),
        ("SYMBOL(mem_section)", "1000"),
        ("SYMBOL(swapper_pg_dir)", "1000"),
        ("SYMBOL(swapper_pg_dir)", "ffffffff82610008"),
        ("NUMBER(phys_base)", "-9223372036854775808"),
        ("NUMBER(pgtable_l5_enabled)", "2"),
        ("NUMBER(sme_mask)", "140737488355328"),
        ("NUMBER(PG_slab)", "64"),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "0"),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "-1"),
        ("LENGTH(zone.free_area)", "0"),
    ] {
        let mut guest = guest();
        guest.set_fact(key, value);
        let result = guest.survey();
        assert!(matches!(result, Err(SurveyError::FactImplausible { .. })), "{key}={value}: {result:?}");
    }
}

#[test]
fn orders_stop_where_the_note_says_the_free_lists_end() {
    let mut guest = guest();
    guest.free_block(QUIET, 6);
    guest.set_fact("LENGTH(zone.free_area)", "7");
    assert_eq!(guest.survey().unwrap().free.len(), 64);
    guest.set_fact("LENGTH(zone.free_area)", "6");
    assert!(guest.survey().unwrap().free.is_empty());
    guest.set_fact("LENGTH(zone.free_area)", "64");
    guest.free_block(QUIET, 11);
    assert!(guest.survey().unwrap().free.is_empty());
}

#[test]
fn structures_may_straddle_mappings() {
    // Of 56 bytes each, some lie across the edges of the 4 KiB mappings above the hole; those are read too.
    let mut guest = guest();
    guest.set_fact("SIZE(page)", "56");
    let first_above = Pfn((4 << 30) >> 12);
    let entry = guest.section_entry(first_above);
    let base = guest.struct_page_va(first_above).wrapping_sub(first_above.0 * 56);
    assert_eq!(base % PAGE_SIZE as u64, 0);
    guest.write(entry, &(base | 0b1111).to_le_bytes());
    assert_eq!(guest.survey().unwrap().work.struct_pages_read, 8192);
}
