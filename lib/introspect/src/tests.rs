//! Stories about a synthetic guest, honest and lying.

mod honest;
mod lies;
mod notes;
mod random;

use dormouse_guest_mem::Pfn;

use crate::testing::{Guest, Shape};

/// All combinations of page table levels, page type encodings and RAM layouts.
fn shapes() -> impl Iterator<Item = Shape> {
    (0..8).map(|bits: u8| Shape {
        page_table_levels: 4 + (bits & 1),
        top_byte_types: bits & 2 != 0,
        hole: bits & 4 != 0,
    })
}

fn guest() -> Guest {
    Guest::new(Shape { page_table_levels: 4, top_byte_types: false, hole: true })
}

/// A page in the midst of RAM that no structure of the kernel lies in, aligned for a block of 1024.
const QUIET: Pfn = Pfn(2048);
