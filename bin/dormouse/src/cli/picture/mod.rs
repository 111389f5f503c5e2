//! A picture of a snapshot's RAM: every pixel a page, coloured by what the guest used it for.

mod font;
mod grid;
mod hilbert;
mod legend;
mod palette;
mod raster;
mod svg;

pub(super) use grid::Grid;
pub(super) use palette::name;
pub(super) use raster::png;
pub(super) use svg::svg;

/// Pixels between tiles and around the picture.
const GAP: u32 = 6;
/// Height of a line of the legend.
const LINE: u32 = 18;
