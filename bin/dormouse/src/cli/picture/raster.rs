//! The picture as PNG.

use super::grid::Grid;
use super::palette::{INK, PAPER, Rgb, Shade};
use super::{GAP, LINE, font, legend};

/// Colours by number: the shades, then paper and ink.
const PAPER_INDEX: u8 = 18;
const INK_INDEX: u8 = 19;

/// A picture of numbered colours.
struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![PAPER_INDEX; width as usize * height as usize] }
    }

    /// Sets a pixel; outside of the picture it does nothing.
    fn set(&mut self, x: u32, y: u32, colour: u8) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y as usize * self.width as usize + x as usize)
        {
            *pixel = colour;
        }
    }

    fn square(&mut self, left: u32, top: u32, side: u32, colour: u8) {
        for y in top..top + side {
            for x in left..left + side {
                self.set(x, y, colour);
            }
        }
    }

    fn text(&mut self, left: u32, top: u32, text: &str) {
        for (letter, at) in text.chars().zip(0u32..) {
            for (x, y) in font::dots(letter) {
                self.set(left + at * font::ADVANCE + x, top + y, INK_INDEX);
            }
        }
    }
}

/// Draws the map with its legend.
///
/// # Errors
/// Only when the encoder fails, which writing to memory does not.
pub(in crate::cli) fn png(grid: &Grid) -> Result<Vec<u8>, png::EncodingError> {
    encode(&draw(grid))
}

fn draw(grid: &Grid) -> Canvas {
    let (map_width, map_height) = grid.size();
    let (entries, caption) = (legend::entries(grid), legend::caption(grid));
    let lines = u32::try_from(entries.len() + caption.len()).unwrap_or(0);
    let longest = caption.iter().map(|line| line.len()).max().unwrap_or(0);
    let width = map_width.max(u32::try_from(longest).unwrap_or(0) * font::ADVANCE + 2 * GAP);
    let mut canvas = Canvas::new(width, map_height + lines * LINE + GAP);
    for (x, y, shade) in grid.pixels() {
        canvas.set(x, y, colour_of(shade));
    }
    let mut top = map_height;
    for entry in entries {
        for (left, stored) in [(GAP, true), (GAP + LINE, false)] {
            canvas.square(left, top, LINE - 4, colour_of(Shade { class: entry.class, stored }));
        }
        canvas.text(GAP * 2 + LINE * 2, top + 3, &entry.text);
        top += LINE;
    }
    for line in caption {
        canvas.text(GAP, top + 3, &line);
        top += LINE;
    }
    canvas
}

fn colour_of(shade: Shade) -> u8 {
    u8::try_from(shade.index()).unwrap_or(PAPER_INDEX)
}

fn encode(canvas: &Canvas) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, canvas.width, canvas.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    let palette: Vec<Rgb> = Shade::all().map(Shade::colour).chain([PAPER, INK]).collect();
    encoder.set_palette(palette.concat());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.pixels)?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use dormouse_guest_mem::PageClass;

    use super::super::grid::tests::small;
    use super::*;

    #[test]
    fn a_decoded_picture_has_the_colours_of_the_pages_in_their_places() {
        let grid = small();
        let data = png(&grid).unwrap();
        let mut decoder = png::Decoder::new(Cursor::new(data));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let at = |x: u32, y: u32| {
            let from = (y * info.width + x) as usize * 3;
            [pixels[from], pixels[from + 1], pixels[from + 2]]
        };
        for (x, y, shade) in grid.pixels() {
            assert_eq!(at(x, y), shade.colour(), "{x},{y}");
        }
        assert_eq!(at(0, 0), PAPER);
        let legend = grid.size().1;
        assert_eq!(at(GAP, legend), Shade { class: PageClass::Free, stored: true }.colour());
        assert_eq!(at(GAP + LINE, legend), Shade { class: PageClass::Free, stored: false }.colour());
    }
}
