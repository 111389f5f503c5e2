//! The image in `tests/fixtures/v1` was written by the first release and is never written again: it must be readable for
//! ever, whatever the writer does by then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use dormouse_image::{ImageReader, PageKind};
use support::*;

#[test]
fn the_committed_image_of_version_1_is_read_for_ever() {
    let mixed = Mixed::new();
    let image = ImageReader::open(&fixture("memory.img"), Some(&ROOT.parse().unwrap())).unwrap();
    image.verify(&()).unwrap();
    assert_eq!(image.layout(), &mixed.layout);
    assert!(read_all(&image) == mixed.restored());
    assert!(materialised(&image, 2) == mixed.restored());
    let summary = image.summary();
    assert_eq!((summary.pages.free, summary.pages.zero, summary.pages.data), (6, 12, 46));
    for run in image.runs() {
        let free = run.pages.clone().all(|page| mixed.free.contains(dormouse_guest_mem::PageIndex(page)));
        assert_eq!(run.kind == PageKind::Free, free);
        assert_eq!(run.class, class_of(dormouse_guest_mem::PageIndex(run.pages.start)));
    }
}

const ROOT: &str = "05289c76e53e674bd51abf0ef9baf94418f7328d2013bc0631af989b5572563b";
