//! The figures as a picture: for each workload a bar for each method, stacked by what the pages hold.

use std::fmt::Write;

use dormouse_guest_mem::Bytes;

use crate::figures::{Figures, Method, Row};
use crate::portion::Portion;

const PAPER: &str = "#ffffff";
const INK: &str = "#282828";
const RULE: &str = "#d8d8d8";
/// Bytes on disk are of no single kind.
const COMPRESSED: &str = "#009e73";

const WIDTH: f64 = 900.0;
/// Where bars begin, and where the longest ends.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 820.0;
const BAR: f64 = 12.0;
const STEP: f64 = 17.0;
const HEAD: f64 = 30.0;

/// Bars of the same length mean the same size within a workload. All RAM has no bar: it would make the others short.
pub(crate) fn draw(all: &[Figures]) -> String {
    let mut body = String::new();
    let mut top = legend(&mut body);
    for figures in all {
        top = workload(&mut body, figures, top);
    }
    let height = top + 6.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n{body}</svg>\n"
    )
}

/// Chosen to be told apart by people with any kind of colour vision (after Okabe and Ito).
fn colour(portion: Portion) -> &'static str {
    match portion {
        Portion::Zero => PAPER,
        Portion::Free => "#b8c4d0",
        Portion::OnDisk => "#56b4e9",
        Portion::Cache => "#0072b2",
        Portion::Processes => "#d55e00",
        Portion::Kernel => "#505050",
    }
}

fn legend(out: &mut String) -> f64 {
    let mut left = 12.0;
    let stacked = Portion::ALL.iter().filter(|portion| **portion != Portion::Zero);
    let entries =
        stacked.map(|portion| (colour(*portion), portion.title())).chain([(COMPRESSED, "compressed, on disk")]);
    for (colour, title) in entries {
        rect(out, left, 12.0, 12.0, colour);
        text(out, left + 17.0, 22.0, "start", title);
        left += 34.0 + 6.6 * f64::from(u32::try_from(title.len()).unwrap_or(0));
    }
    40.0
}

fn workload(out: &mut String, figures: &Figures, top: f64) -> f64 {
    let bars = figures.methods.iter().filter(|stored| stored.method != Method::Full);
    let longest = bars.clone().map(|stored| stored.bytes.0).max().unwrap_or(0).max(1);
    let _ = writeln!(out, "<path d=\"M12 {top}H{}\" stroke=\"{RULE}\"/>", WIDTH - 12.0);
    let head = format!("{:?}: {}", figures.workload, figures.title);
    let _ =
        writeln!(out, "<text x=\"12\" y=\"{}\" fill=\"{INK}\" font-weight=\"bold\">{head}</text>", top + HEAD - 10.0);
    let mut at = top + HEAD;
    for stored in bars {
        bar(out, stored, at, longest);
        at += STEP;
    }
    at + 8.0
}

fn bar(out: &mut String, stored: &Row, top: f64, longest: u64) {
    text(out, LEFT - 8.0, top + BAR - 2.0, "end", stored.method.title());
    let mut left = LEFT;
    let parts: Vec<(&str, Bytes)> = match &stored.parts {
        Some(parts) => Portion::ALL.iter().map(|portion| (colour(*portion), parts.get(*portion))).collect(),
        None => vec![(COMPRESSED, stored.bytes)],
    };
    for (colour, bytes) in parts.into_iter().filter(|(_, bytes)| bytes.0 > 0) {
        let width = width(bytes, longest);
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        );
        left += width;
    }
    text(out, left + 6.0, top + BAR - 2.0, "start", &stored.bytes.to_string());
}

#[expect(clippy::cast_precision_loss, reason = "a length in a picture")]
fn width(bytes: Bytes, longest: u64) -> f64 {
    bytes.0 as f64 / longest as f64 * (RIGHT - LEFT)
}

fn rect(out: &mut String, x: f64, y: f64, size: f64, colour: &str) {
    let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{size}\" height=\"{size}\" fill=\"{colour}\"/>");
}

/// All text is ours and needs no escaping.
fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{INK}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portion::Portions;
    use crate::workload::Workload;

    fn figures() -> Figures {
        let mut parts = Portions::default();
        for portion in [Portion::Free, Portion::Free, Portion::Kernel] {
            parts.add_page(portion);
        }
        let compressed = Row { method: Method::Compressed, bytes: Bytes(4096), parts: None };
        let full = Row::pages(Method::Full, parts);
        let methods = vec![full, Row::pages(Method::NonZero, parts), compressed];
        let (ram, kernel) = (Bytes::mib(1), "6.1".to_owned());
        Figures { workload: Workload::W0, title: "idle", ram, kernel, methods, checks: Vec::new(), notes: Vec::new() }
    }

    #[test]
    fn parts_of_a_bar_touch_and_their_lengths_tell_their_sizes() {
        let picture = draw(&[figures()]);
        let free =
            format!("<rect x=\"250.0\" y=\"70\" width=\"380.0\" height=\"12\" fill=\"{}\"/>", colour(Portion::Free));
        let kernel =
            format!("<rect x=\"630.0\" y=\"70\" width=\"190.0\" height=\"12\" fill=\"{}\"/>", colour(Portion::Kernel));
        assert!(picture.contains(&free) && picture.contains(&kernel), "{picture}");
        assert!(picture.contains(&format!("width=\"190.0\" height=\"12\" fill=\"{COMPRESSED}\"")), "{picture}");
        assert!(!picture.contains(Method::Full.title()), "all RAM has no bar");
    }
}
