//! Memory images that lie. The checksums of every input are repaired first, so that all of them reach the decoder.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex};
use dormouse_image::{ImageReader, PageKind};
use libfuzzer_sys::fuzz_target;

/// Reads page by page up to here: RAM may claim terabytes of zero pages.
const PAGES_READ: u32 = 256;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let _ = dormouse_image::testing::reseal_v1(&mut bytes);
    let Some(image) = open(&bytes) else { return };
    let covered: u64 = image.runs().map(|run| u64::from(run.pages.end - run.pages.start)).sum();
    assert_eq!(covered, u64::from(image.layout().pages()));
    let verified = image.verify(&()).is_ok();

    let mut content = [0u8; PAGE_SIZE];
    for page in image.runs().filter(|run| run.kind == PageKind::Data).flat_map(|run| run.pages).take(PAGES_READ as usize) {
        let read = image.read_page(PageIndex(page), &mut content).is_ok();
        assert!(read || !verified, "page {page} of a verified image can not be read");
    }
    let out = tempfile::tempfile_in("/dev/shm").unwrap();
    let made = image.materialise(&out, 1, &()).is_ok();
    let len = out.metadata().unwrap().len();
    assert_eq!(made, verified && len == image.layout().len().0);
    assert!(made || len == 0, "half-filled RAM is left behind");
});

fn open(bytes: &[u8]) -> Option<ImageReader> {
    let mut file: File = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(bytes).unwrap();
    ImageReader::from_file(file, Path::new("fuzz"), None).ok()
}
