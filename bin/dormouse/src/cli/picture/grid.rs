//! Where each page goes: square tiles in reading order, and within a tile along a Hilbert curve.
//!
//! So a tile is a known stretch of memory, blocks of the buddy allocator are squares, and a picture of any RAM size
//! has a good shape. In plain rows a run of some hundred pages would be a thin line.

use dormouse_api_types::own::RamMap;
use dormouse_guest_mem::Bytes;

use super::GAP;
use super::hilbert;
use super::palette::Shade;

/// Side of a tile in pixels: 256 MiB where a pixel is a page.
const SIDE: u32 = 256;
/// Above this, a pixel stands for several pages.
const MAX_TILES: u64 = 32;

/// The pixels of a RAM map.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Grid {
    side: u32,
    columns: u32,
    tiles: u32,
    pages_per_pixel: u64,
    pixels: Vec<Shade>,
    totals: [u64; Shade::COUNT],
}

impl Grid {
    /// Lays out a map.
    pub(in crate::cli) fn new(map: &RamMap) -> Self {
        Self::with_side(map, SIDE)
    }

    fn with_side(map: &RamMap, side: u32) -> Self {
        let pages: u64 = map.runs.iter().map(|run| u64::from(run.pages)).sum();
        let per_tile = u64::from(side) * u64::from(side);
        let pages_per_pixel = pages.div_ceil(per_tile * MAX_TILES).max(1).next_power_of_two();
        let (pixels, totals) = shades(map, pages_per_pixel);
        let tiles = u32::try_from((pixels.len() as u64).div_ceil(per_tile)).unwrap_or(1).max(1);
        let columns = (1..=tiles).find(|c| c * c >= tiles).unwrap_or(1);
        Self { side, columns, tiles, pages_per_pixel, pixels, totals }
    }

    /// Width and height of the map, gaps included.
    pub(super) fn size(&self) -> (u32, u32) {
        let rows = self.tiles.div_ceil(self.columns);
        let step = self.side + GAP;
        (self.columns * step + GAP, rows * step + GAP)
    }

    /// Every pixel and where it is.
    pub(super) fn pixels(&self) -> impl Iterator<Item = (u32, u32, Shade)> + '_ {
        let per_tile = self.side * self.side;
        self.pixels.iter().zip(0u32..).map(move |(shade, at)| {
            let (tile, step) = (at / per_tile, at % per_tile);
            let (x, y) = hilbert::position(self.side, step);
            let left = GAP + tile % self.columns * (self.side + GAP);
            let top = GAP + tile / self.columns * (self.side + GAP);
            (left + x, top + y, *shade)
        })
    }

    /// All pages of a shade.
    pub(super) fn total(&self, shade: Shade) -> Bytes {
        Bytes::of_pages(self.totals.get(shade.index()).copied().unwrap_or(0))
    }

    /// What one pixel stands for.
    pub(super) fn pixel_size(&self) -> Bytes {
        Bytes::of_pages(self.pages_per_pixel)
    }

    /// What one tile stands for.
    pub(super) fn tile_size(&self) -> Bytes {
        Bytes::of_pages(self.pages_per_pixel * u64::from(self.side) * u64::from(self.side))
    }
}

/// One shade for each pixel, that of most of its pages; and the number of pages of each shade.
fn shades(map: &RamMap, pages_per_pixel: u64) -> (Vec<Shade>, [u64; Shade::COUNT]) {
    let (mut pixels, mut totals) = (Vec::new(), [0u64; Shade::COUNT]);
    let (mut counts, mut filled) = ([0u64; Shade::COUNT], 0);
    for run in &map.runs {
        let index = Shade { class: run.class, stored: run.stored }.index();
        let mut rest = u64::from(run.pages);
        while rest > 0 {
            let take = rest.min(pages_per_pixel - filled);
            add(&mut counts, index, take);
            add(&mut totals, index, take);
            (rest, filled) = (rest - take, filled + take);
            if filled == pages_per_pixel {
                pixels.extend(most(&counts));
                (counts, filled) = ([0; Shade::COUNT], 0);
            }
        }
    }
    if filled > 0 {
        pixels.extend(most(&counts));
    }
    (pixels, totals)
}

fn add(counts: &mut [u64; Shade::COUNT], index: usize, pages: u64) {
    if let Some(count) = counts.get_mut(index) {
        *count += pages;
    }
}

fn most(counts: &[u64; Shade::COUNT]) -> Option<Shade> {
    Shade::all().zip(counts).max_by_key(|(_, count)| **count).map(|(shade, _)| shade)
}

#[cfg(test)]
pub(super) mod tests {
    use dormouse_api_types::own::MapRun;
    use dormouse_guest_mem::{GuestAddr, PageClass, RamLayout, RamRegion};

    use super::*;

    pub(in crate::cli::picture) fn map(runs: &[(u32, PageClass, bool)]) -> RamMap {
        let pages: u32 = runs.iter().map(|r| r.0).sum();
        let region = RamRegion { guest: GuestAddr(0), offset: 0, len: u64::from(pages) << 12 };
        let runs = runs.iter().map(|r| MapRun::from(*r)).collect();
        RamMap { layout: RamLayout::new(vec![region]).unwrap(), runs }
    }

    pub(in crate::cli::picture) fn small() -> Grid {
        let runs = [(4, PageClass::Kernel, true), (8, PageClass::Free, false), (5, PageClass::Anonymous, true)];
        Grid::with_side(&map(&runs), 4)
    }

    #[test]
    fn each_page_is_a_pixel_of_its_class_in_the_tile_it_belongs_to() {
        let grid = small();
        assert_eq!((grid.tiles, grid.columns), (2, 2));
        let pixels: Vec<_> = grid.pixels().collect();
        assert_eq!(pixels.len(), 17);
        let at = |i: usize| (pixels[i].0 - GAP, pixels[i].1 - GAP, pixels[i].2.class);
        assert_eq!(at(0), (0, 0, PageClass::Kernel));
        assert_eq!(at(4).2, PageClass::Free);
        assert_eq!(at(15), (3, 0, PageClass::Anonymous));
        assert_eq!(at(16), (4 + GAP, 0, PageClass::Anonymous), "the second tile begins where it should");
        assert_eq!(grid.total(Shade { class: PageClass::Free, stored: false }), Bytes::of_pages(8));
    }

    #[test]
    fn a_pixel_of_several_pages_shows_what_most_of_them_are() {
        let runs = [(1, PageClass::Kernel, true), (1023, PageClass::Free, false), (1, PageClass::Slab, true)];
        let grid = Grid::with_side(&map(&runs), 4);
        assert_eq!(grid.pages_per_pixel, 4);
        assert_eq!(grid.pixels[0].class, PageClass::Free);
        assert_eq!(grid.pixels.last().unwrap().class, PageClass::Slab);
    }

    #[test]
    fn a_large_guest_still_gives_a_picture_of_bounded_size() {
        let grid = Grid::new(&map(&[(1 << 28, PageClass::Free, false)]));
        assert!(grid.pixels.len() <= (SIDE * SIDE) as usize * 32);
        assert_eq!(grid.total(Shade { class: PageClass::Free, stored: false }), Bytes(1 << 40));
    }
}
