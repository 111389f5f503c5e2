//! The picture as SVG: one path for each shade, made of horizontal runs.

use std::fmt::Write;

use super::grid::Grid;
use super::palette::{INK, PAPER, Rgb, Shade};
use super::{GAP, LINE, legend};

/// Draws the map with its legend.
pub(in crate::cli) fn svg(grid: &Grid) -> String {
    let (width, map_height) = grid.size();
    let (entries, caption) = (legend::entries(grid), legend::caption(grid));
    let lines = u32::try_from(entries.len() + caption.len()).unwrap_or(0);
    let (width, height) = (width.max(420), map_height + lines * LINE + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{}\" height=\"{}\" \
         shape-rendering=\"crispEdges\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n",
        width * 2,
        height * 2,
        hex(PAPER)
    );
    for (shade, path) in paths(grid) {
        let _ = writeln!(out, "<path fill=\"{}\" d=\"{path}\"/>", hex(shade.colour()));
    }
    let mut top = map_height;
    for entry in entries {
        for (at, stored) in [(GAP, true), (GAP + LINE, false)] {
            let colour = hex(Shade { class: entry.class, stored }.colour());
            let size = LINE - 4;
            let _ =
                writeln!(out, "<rect x=\"{at}\" y=\"{top}\" width=\"{size}\" height=\"{size}\" fill=\"{colour}\"/>");
        }
        text(&mut out, GAP * 2 + LINE * 2, top, &entry.text);
        top += LINE;
    }
    for line in caption {
        text(&mut out, GAP, top, &line);
        top += LINE;
    }
    out.push_str("</svg>\n");
    out
}

/// All text is ours: names of classes and numbers, nothing that would need escaping.
fn text(out: &mut String, x: u32, top: u32, text: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" fill=\"{}\">{text}</text>", top + LINE - 6, hex(INK));
}

/// For each shade that occurs, the runs of pixels in rows that have it.
fn paths(grid: &Grid) -> Vec<(Shade, String)> {
    let mut pixels: Vec<(u32, u32, Shade)> = grid.pixels().collect();
    pixels.sort_unstable_by_key(|(x, y, _)| (*y, *x));
    let mut paths: Vec<(Shade, String)> = Shade::all().map(|shade| (shade, String::new())).collect();
    let mut runs: Vec<(u32, u32, u32, Shade)> = Vec::new();
    for (x, y, shade) in pixels {
        match runs.last_mut() {
            Some((from, row, length, same)) if *row == y && *same == shade && *from + *length == x => *length += 1,
            _ => runs.push((x, y, 1, shade)),
        }
    }
    for (x, y, length, shade) in runs {
        if let Some((_, path)) = paths.get_mut(shade.index()) {
            let _ = write!(path, "M{x} {y}h{length}v1h-{length}z");
        }
    }
    paths.retain(|(_, path)| !path.is_empty());
    paths
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::PageClass;

    use super::super::grid::tests::small;
    use super::*;

    #[test]
    fn pixels_in_a_row_are_one_rectangle_and_all_are_drawn() {
        let paths = paths(&small());
        assert_eq!(paths.len(), 3);
        let (_, kernel) = &paths.iter().find(|(s, _)| s.class == PageClass::Kernel).unwrap();
        assert_eq!(kernel.as_str(), "M6 6h2v1h-2zM6 7h2v1h-2z", "the first four pages are a square");
    }

    #[test]
    fn the_legend_names_every_class_that_occurs_with_both_samples() {
        let picture = svg(&small());
        for class in ["kernel: 16.0 KiB, 16.0 KiB stored", "free: 32.0 KiB, 0 B stored", "anonymous: 20.0 KiB"] {
            assert!(picture.contains(class), "{class}\n{picture}");
        }
        assert!(!picture.contains("slab"));
        assert_eq!(picture.matches("<rect").count(), 1 + 3 * 2);
    }
}
