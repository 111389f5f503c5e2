//! A paused guest that lies: patches over a valid synthetic guest, so that the input reaches every stage.
//!
//! Input: one byte of shape and flags, one of note placement, then patches of (place: 4 bytes, length: 1 byte, bytes).
#![no_main]

use std::sync::LazyLock;

use dormouse_guest_mem::{Bytes, GuestAddr, PageClass, Pfn};
use dormouse_introspect::testing::{Guest, Shape, Use};
use dormouse_introspect::{NoteLocation, Request, Survey, survey};
use libfuzzer_sys::fuzz_target;

/// The stated bounds of `Work`.
const BYTES_PER_PAGE: u64 = 512;
const BYTES_BASE: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, place], patches)) = input.split_first_chunk::<2>() else { return };
    let Some(mut guest) = GUESTS.get(usize::from(flags & 7)).cloned() else { return };
    patch(&mut guest, patches);
    let request = Request {
        note: note(&guest, flags, place),
        mem_free: (flags & 0x40 != 0).then(|| Bytes::mib(u64::from(place))),
        ..guest.request()
    };
    if let Ok(survey) = survey(&request) {
        check(&guest, &survey);
    }
});

/// One guest of each shape: building takes longer than surveying.
static GUESTS: LazyLock<[Guest; 8]> = LazyLock::new(|| [0, 1, 2, 3, 4, 5, 6, 7].map(populated));

/// A guest with something of everything; the three bits of `shape` choose its kind.
fn populated(shape: u8) -> Guest {
    let mut guest =
        Guest::new(Shape { page_table_levels: 4 + (shape & 1), top_byte_types: shape & 2 != 0, hole: shape & 4 != 0 });
    guest.free_block(Pfn(2048), 10);
    guest.free_block(Pfn(3072), 0);
    guest.free_block(Pfn(3074), 1);
    guest.compound(Pfn(3080), 3, Use::Anonymous);
    guest.mark(Pfn(3100), Use::Slab);
    guest.mark(Pfn(3101), Use::Offline);
    guest
}

fn note(guest: &Guest, flags: u8, place: u8) -> Option<NoteLocation> {
    match flags >> 3 & 3 {
        0 => None,
        1 => Some(NoteLocation { addr: GuestAddr(u64::from(place) << 20), len: 0x1024 }),
        _ => Some(guest.note()),
    }
}

fn patch(guest: &mut Guest, mut patches: &[u8]) {
    while let Some((head, rest)) = patches.split_first_chunk::<5>() {
        let place = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(head[4])));
        // Two kinds of place, so that both structures and the rest are met often.
        let at = if place & 1 == 0 { place & 0x3f_ffff } else { place & 0x1ff_ffff };
        guest.write(GuestAddr(u64::from(at)), bytes);
        patches = rest;
    }
}

fn check(guest: &Guest, survey: &Survey) {
    let pages = guest.layout.pages();
    assert!(survey.work.struct_pages_read <= u64::from(pages));
    assert!(survey.work.bytes_read <= BYTES_BASE + BYTES_PER_PAGE * u64::from(pages));
    assert_eq!(survey.classes.len(), pages);
    let nobodys = [PageClass::Free, PageClass::Offline].map(|class| survey.classes.count(class));
    assert_eq!(survey.free.len(), nobodys.iter().sum::<u32>());
    let note = guest.layout.page_of(survey.kernel.note.addr.pfn());
    assert!(note.is_some_and(|note| !survey.free.contains(note)));
}
