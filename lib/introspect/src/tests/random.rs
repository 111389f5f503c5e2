use dormouse_guest_mem::{GuestAddr, PAGE_SHIFT, PageSet, Pfn};
use proptest::prelude::*;

use crate::ram::Ram;
use crate::testing::{Guest, Shape, Use};
use crate::{Survey, SurveyError};

fn any_shape() -> impl Strategy<Value = Shape> {
    (4u8..=5, any::<bool>(), any::<bool>()).prop_map(|(page_table_levels, top_byte_types, hole)| Shape {
        page_table_levels,
        top_byte_types,
        hole,
    })
}

/// An honest guest with some free blocks and users.
fn any_guest() -> impl Strategy<Value = Guest> {
    let blocks = prop::collection::vec((0u64..6, 0u64..=10), 0..5);
    (any_shape(), blocks).prop_map(|(shape, blocks)| {
        let mut guest = Guest::new(shape);
        for (place, order) in blocks {
            guest.free_block(Pfn(2048 + place * 1024 / 2), order);
        }
        guest.compound(Pfn(1536), 9, Use::Anonymous);
        guest.mark(Pfn(1500), Use::Slab);
        guest
    })
}

/// Overwrites within the first 4 MiB, where all structures of the kernel lie; mostly where there is something.
fn any_patches() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let place = prop_oneof![
        0x10000u64..0x11000,     // note
        0x11000u64..0x20000,     // page tables
        0x40000u64..0x42100,     // sections
        0x80000u64..0xa0000,     // page structures above the hole
        0x20_0000u64..0x28_0000, // page structures below the hole
        0u64..0x40_0000,
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        any::<u64>().prop_map(|v| v.to_le_bytes().to_vec()),
        (0u64..8192, 0u64..256).prop_map(|(page, flags)| (page << PAGE_SHIFT | flags).to_le_bytes().to_vec()),
        "[0-9a-f]{1,4}".prop_map(String::into_bytes),
    ];
    prop::collection::vec((place, bytes), 0..24)
}

fn within_budget(guest: &Guest, survey: &Survey) -> bool {
    survey.work.struct_pages_read <= u64::from(guest.layout.pages())
        && survey.work.bytes_read <= Ram::budget(&guest.layout)
}

fn meet(a: &PageSet, b: &PageSet) -> bool {
    !a.intersection(b).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn overwritten_structures_never_panic_nor_cost_more_than_the_budget(
        mut guest in any_guest(),
        patches in any_patches(),
    ) {
        for (at, bytes) in patches {
            guest.write(GuestAddr(at & !1), &bytes);
        }
        match guest.survey() {
            Ok(survey) => {
                prop_assert!(within_budget(&guest, &survey));
                let note = guest.layout.page_of(guest.note().addr.pfn()).unwrap();
                prop_assert!(!survey.free.contains(note));
            }
            Err(error) => prop_assert!(!matches!(error, SurveyError::TooMuchWork { .. }), "{error}"),
        }
    }

    #[test]
    fn whatever_the_page_structures_say_the_kernels_own_pages_are_never_free(
        mut guest in any_guest(),
        marks in prop::collection::vec((0usize..8192, 0u64..=11, 0u32..4), 0..12),
    ) {
        for (at, order, refs) in marks {
            let pfn = guest.pfns()[at];
            guest.free_block(Pfn(pfn.0 >> order << order), order);
            if refs == 3 {
                guest.set_refcount(pfn, refs);
            }
        }
        if let Ok(survey) = guest.survey() {
            prop_assert!(!meet(&survey.free, guest.own_pages()));
        }
    }

    #[test]
    fn honest_guests_of_every_shape_are_believed(guest in any_guest()) {
        let survey = guest.survey();
        prop_assert!(survey.is_ok(), "{:?}", survey.err());
    }
}
