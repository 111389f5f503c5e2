use dormouse_guest_mem::{Bytes, PageClass, PageIndex, PageSet, Pfn};

use super::{QUIET, guest, shapes};
use crate::testing::Use;
use crate::{ClassMap, Survey};

fn pages(members: impl Iterator<Item = u32>) -> PageSet {
    let mut set = PageSet::new(8192);
    members.map(PageIndex).for_each(|page| set.insert(page));
    set
}

#[test]
fn the_free_set_is_exactly_the_free_blocks_of_every_kind_of_guest() {
    for shape in shapes() {
        let mut guest = crate::testing::Guest::new(shape);
        guest.free_block(QUIET, 10);
        guest.free_block(Pfn(3072), 0);
        guest.free_block(Pfn(3074), 1);
        let survey = guest.survey().unwrap();
        assert_eq!(survey.free, pages((2048..3073).chain(3074..3076)), "{shape:?}");
        assert_eq!(survey.classes.count(PageClass::Free), survey.free.len());
        assert_eq!(survey.kernel.page_table_levels, shape.page_table_levels);
        assert_eq!(survey.kernel.page_struct_size, 64);
    }
}

#[test]
fn free_blocks_above_the_hole_land_where_the_ram_file_has_them() {
    let mut guest = guest();
    guest.free_block(Pfn((4 << 30 >> 12) + 1024), 10);
    let survey = guest.survey().unwrap();
    // 24 MiB, which are 6144 pages, lie below the hole.
    assert_eq!(survey.free, pages(7168..8192));
    assert_eq!(survey.kernel.sections, 3);
}

#[test]
fn every_use_of_a_page_has_its_class() {
    let uses = [
        (Use::Kernel, PageClass::Kernel),
        (Use::Anonymous, PageClass::Anonymous),
        (Use::PageCache, PageClass::PageCache),
        (Use::Shmem, PageClass::Shmem),
        (Use::Slab, PageClass::Slab),
        (Use::PageTable, PageClass::PageTable),
        (Use::Offline, PageClass::Offline),
        (Use::Movable, PageClass::Kernel),
        (Use::NewType, PageClass::Kernel),
    ];
    for shape in shapes() {
        let mut guest = crate::testing::Guest::new(shape);
        for (pfn, (usage, _)) in (QUIET.0..).map(Pfn).zip(uses) {
            guest.mark(pfn, usage);
        }
        let classes = guest.survey().unwrap().classes;
        for (page, (usage, class)) in (2048..).map(PageIndex).zip(uses) {
            assert_eq!(classes.get(page), class, "{usage:?} in {shape:?}");
        }
    }
}

#[test]
fn pages_that_a_balloon_took_are_nobodys_too() {
    let mut guest = guest();
    guest.mark(QUIET, Use::Offline);
    let survey = guest.survey().unwrap();
    assert!(survey.free.contains(PageIndex(2048)));
    assert_eq!(survey.free.bytes(), Bytes::of_pages(1));
}

#[test]
fn tails_follow_their_head() {
    let mut guest = guest();
    guest.compound(QUIET, 9, Use::Anonymous);
    guest.compound(Pfn(2560), 3, Use::Slab);
    let classes = guest.survey().unwrap().classes;
    assert_eq!(run(&classes, 2048), (2048..2560, PageClass::Anonymous));
    assert_eq!(run(&classes, 2560), (2560..2568, PageClass::Slab));
}

#[test]
fn a_page_that_nobody_holds_is_no_page_cache() {
    let mut guest = guest();
    guest.mark(QUIET, Use::PageCache);
    guest.set_refcount(QUIET, 0);
    let survey = guest.survey().unwrap();
    assert_eq!(survey.classes.get(PageIndex(2048)), PageClass::Kernel);
    assert!(survey.free.is_empty());
}

#[test]
fn sections_without_page_structures_are_unknown_and_kept() {
    let mut guest = guest();
    guest.free_block(Pfn(4096), 10);
    let entry = guest.section_entry(Pfn(4096));
    guest.write(entry, &0u64.to_le_bytes());
    let survey = guest.survey().unwrap();
    assert_eq!(run(&survey.classes, 4096), (4096..6144, PageClass::Unknown));
    assert!(survey.free.is_empty());
    assert_eq!(survey.kernel.sections, 2);
}

#[test]
fn free_blocks_are_jumped_over_without_reading_their_structures() {
    let mut guest = guest();
    let all = guest.survey().unwrap();
    assert_eq!(all.work.struct_pages_read, 8192);
    guest.free_block(QUIET, 10);
    guest.free_block(Pfn(3072), 10);
    let some = guest.survey().unwrap();
    assert_eq!(some.work.struct_pages_read, 8192 - 2 * 1023);
    assert!(some.work.bytes_read < all.work.bytes_read);
}

#[test]
fn runs_and_free_set_agree() {
    let mut guest = guest();
    for (pfn, order) in [(2048, 3), (2064, 4), (2080, 0), (5120, 10)] {
        guest.free_block(Pfn(pfn), order);
    }
    let Survey { free, classes, .. } = guest.survey().unwrap();
    let free_runs = classes.runs().filter(|(_, c)| *c == PageClass::Free).flat_map(|(r, _)| r);
    assert!(free_runs.eq(free.iter().map(|p| p.0)));
    assert_eq!(classes.runs().map(|(r, _)| r.len()).sum::<usize>(), 8192);
}

fn run(classes: &ClassMap, start: u32) -> (std::ops::Range<u32>, PageClass) {
    classes.runs().find(|(r, _)| r.contains(&start)).unwrap()
}
