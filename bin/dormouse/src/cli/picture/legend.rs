//! What the colours mean, as lines of text with samples.

use dormouse_guest_mem::{Bytes, PageClass};

use super::grid::Grid;
use super::palette::{Shade, name};

/// One class that occurs.
pub(super) struct Entry {
    pub(super) class: PageClass,
    pub(super) text: String,
}

/// A line for each class that occurs.
pub(super) fn entries(grid: &Grid) -> Vec<Entry> {
    let of = |class, stored| grid.total(Shade { class, stored });
    let all = PageClass::ALL.into_iter().map(|class| (class, of(class, true), of(class, false)));
    let present = all.filter(|(_, stored, unstored)| stored.0 + unstored.0 > 0);
    let text = |class, stored: Bytes, unstored: Bytes| {
        format!("{}: {}, {} stored", name(class), Bytes(stored.0 + unstored.0), stored)
    };
    present.map(|(class, stored, unstored)| Entry { class, text: text(class, stored, unstored) }).collect()
}

/// How to read the picture.
pub(super) fn caption(grid: &Grid) -> [String; 2] {
    [
        format!("pixel = {}, square = {}, along a Hilbert curve", grid.pixel_size(), grid.tile_size()),
        "strong = stored, pale = not stored (free or zero)".to_owned(),
    ]
}
