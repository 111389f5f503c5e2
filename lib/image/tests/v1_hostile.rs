//! Images with right checksums that lie: written by hand, field by field, as a stranger would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use dormouse_image::{Damage, ImageReader, MaterialiseError, ReadError};
use support::*;

#[derive(Clone)]
struct Frame {
    offset: u64,
    stored_len: u32,
    pages: u16,
    encoding: u8,
    reserved: u8,
}

/// Every number of a small image: one zero page, two data pages in one raw frame, one free page.
#[derive(Clone)]
struct Crafted {
    ram_len: u64,
    page_size: u32,
    frame_pages: u32,
    header_reserved: u8,
    regions: Vec<[u64; 3]>,
    runs: Vec<(u32, u8, u8, u16)>,
    frames: Vec<Frame>,
    stored: Vec<u8>,
    counts: Option<[u32; 4]>,
    tail: Vec<u8>,
}

impl Crafted {
    fn honest() -> Self {
        Self {
            ram_len: 4 * PAGE,
            page_size: 4096,
            frame_pages: 2,
            header_reserved: 0,
            regions: vec![[0, 0, 4 * PAGE]],
            runs: vec![(1, 1, 0, 0), (2, 3, 4, 0), (1, 2, 1, 0)],
            frames: vec![Frame { offset: 64, stored_len: 8192, pages: 2, encoding: 1, reserved: 0 }],
            stored: [noise(1), noise(2)].concat(),
            counts: None,
            tail: vec![],
        }
    }

    fn open(&self) -> Result<ImageReader, ReadError> {
        let mut image =
            [&b"dormimg\0"[..], &1u32.to_le_bytes(), &0u32.to_le_bytes(), &self.ram_len.to_le_bytes()].concat();
        image.extend([self.page_size.to_le_bytes(), self.frame_pages.to_le_bytes()].concat());
        image.extend([0; 31]);
        image.push(self.header_reserved);
        image.extend(&self.stored);
        let index_offset = image.len() as u64;
        let lens = [self.regions.len() as u32, self.runs.len() as u32, self.frames.len() as u32, 0];
        self.counts.unwrap_or(lens).iter().for_each(|n| image.extend(n.to_le_bytes()));
        self.regions.iter().flatten().for_each(|n| image.extend(n.to_le_bytes()));
        for (pages, kind, class, reserved) in &self.runs {
            image.extend([&pages.to_le_bytes()[..], &[*kind, *class], &reserved.to_le_bytes()].concat());
        }
        for f in &self.frames {
            image.extend([&f.offset.to_le_bytes()[..], &f.stored_len.to_le_bytes(), &f.pages.to_le_bytes()].concat());
            image.extend([f.encoding, f.reserved]);
            image.extend([0; 32]);
        }
        image.extend(&self.tail);
        image.extend(index_offset.to_le_bytes());
        image.extend([0; 56]);
        dormouse_image::testing::reseal_v1(&mut image).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), image).unwrap();
        ImageReader::open(file.path(), None)
    }
}

fn damage(change: impl FnOnce(&mut Crafted)) -> Option<Damage> {
    let mut crafted = Crafted::honest();
    change(&mut crafted);
    match crafted.open() {
        Err(ReadError::Damaged { damage, .. }) => Some(damage),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

#[test]
fn an_honest_image_written_by_a_stranger_is_read() {
    let image = Crafted::honest().open().unwrap();
    let expected = [[0; 4096], noise(1), noise(2), [0; 4096]].concat();
    assert!(read_all(&image) == expected);
    assert!(materialised(&image, 2) == expected);
}

#[test]
fn page_maps_that_do_not_cover_ram_exactly_are_refused() {
    let map = |runs: &[(u32, u8, u8, u16)]| damage(|c| c.runs = runs.to_vec());
    let bad = Some(Damage::PageMap);
    assert_eq!(map(&[(1, 1, 0, 0), (2, 3, 4, 0)]), bad, "too short");
    assert_eq!(map(&[(1, 1, 0, 0), (2, 3, 4, 0), (2, 2, 1, 0)]), bad, "too long");
    assert_eq!(map(&[(1, 1, 0, 0), (2, 3, 4, 0), (u32::MAX, 2, 1, 0)]), bad, "overflow");
    assert_eq!(map(&[(1, 1, 0, 0), (2, 3, 4, 0), (0, 2, 1, 0), (1, 2, 1, 0)]), bad, "empty run");
    assert_eq!(map(&[(1, 4, 0, 0), (2, 3, 4, 0), (1, 2, 1, 0)]), bad, "a kind of a later version");
    assert_eq!(map(&[(1, 0, 0, 0), (2, 3, 4, 0), (1, 2, 1, 0)]), bad, "kind 0");
    assert_eq!(map(&[(1, 1, 9, 0), (2, 3, 4, 0), (1, 2, 1, 0)]), bad, "a class of a later version");
    assert_eq!(map(&[(1, 1, 0, 1), (2, 3, 4, 0), (1, 2, 1, 0)]), Some(Damage::Reserved));
    assert_eq!(
        map(&[(2, 1, 0, 0), (1, 3, 4, 0), (1, 2, 1, 0)]),
        Some(Damage::FrameTable),
        "fewer data pages than frames"
    );
    assert_eq!(map(&[(3, 3, 4, 0), (1, 2, 1, 0)]), Some(Damage::FrameTable), "more data pages than frames");
}

#[test]
fn frame_tables_that_do_not_fit_the_file_are_refused() {
    let frame = |change: fn(&mut Frame)| damage(|c| change(&mut c.frames[0]));
    let bad = Some(Damage::FrameTable);
    assert_eq!(frame(|f| f.offset = 65), bad, "gap");
    assert_eq!(frame(|f| f.offset = 0), bad, "over the header");
    assert_eq!(frame(|f| f.offset = u64::MAX), bad, "out of the file");
    assert_eq!(frame(|f| f.pages = 0), bad, "no pages");
    assert_eq!(frame(|f| f.pages = u16::MAX), bad, "huge");
    assert_eq!(frame(|f| f.encoding = 0), bad, "unknown encoding");
    assert_eq!(frame(|f| f.stored_len = 8191), bad, "raw but shorter than its pages");
    assert_eq!(frame(|f| (f.encoding, f.stored_len) = (2, 0)), bad, "empty");
    assert_eq!(frame(|f| (f.encoding, f.stored_len) = (2, u32::MAX)), bad, "longer than its pages");
    assert_eq!(frame(|f| f.reserved = 1), Some(Damage::Reserved));
    let stored = |encoding, len| {
        damage(|c| {
            (c.frames[0].encoding, c.frames[0].stored_len) = (encoding, len);
            c.stored = vec![1; len as usize];
        })
    };
    assert_eq!(stored(1, 8192), None);
    assert_eq!(stored(1, 8191), bad, "raw but shorter than its pages, without a gap");
    assert_eq!(stored(2, 8192), bad, "compressed but not shorter than its pages");
    assert_eq!(stored(3, 100), bad, "an encoding of a later version");
    let one = |offset| Frame { offset, stored_len: 4096, pages: 1, encoding: 1, reserved: 0 };
    assert_eq!(damage(|c| c.frames = vec![one(64), one(64)]), bad, "overlap");
    assert_eq!(damage(|c| c.frames = vec![one(4160), one(64)]), bad, "unsorted");
    assert_eq!(damage(|c| c.frames = vec![one(64)]), bad, "too few");
    assert_eq!(damage(|c| c.frames = vec![one(64), one(4160)]), None, "the same in order is fine");
    assert_eq!(damage(|c| c.stored.extend([1; 10])), bad, "bytes that belong to no frame");
    assert_eq!(damage(|c| c.stored.truncate(8000)), bad, "the frame reaches into the index");
    assert_eq!(damage(|c| c.frame_pages = 1), bad, "more pages than the header allows");
}

#[test]
fn headers_and_counts_that_lie_are_refused_before_anything_is_allocated() {
    assert_eq!(damage(|c| c.ram_len = u64::MAX), Some(Damage::Layout));
    assert_eq!(damage(|c| c.regions = vec![[0, 0, 1 << 50]]), Some(Damage::Layout));
    assert_eq!(damage(|c| c.regions = vec![[0, 0, 4 * PAGE], [0, 4 * PAGE, PAGE]]), Some(Damage::Layout));
    assert_eq!(damage(|c| c.regions = vec![]), Some(Damage::Layout));
    assert_eq!(damage(|c| c.regions = (0..17).map(|i| [i * PAGE, i * PAGE, PAGE]).collect()), Some(Damage::Layout));
    assert_eq!(damage(|c| c.page_size = 8192), Some(Damage::Header));
    assert_eq!(damage(|c| c.frame_pages = 0), Some(Damage::Header));
    assert_eq!(damage(|c| c.frame_pages = 4097), Some(Damage::Header));
    assert_eq!(damage(|c| c.header_reserved = 1), Some(Damage::Reserved));
    for at in 0..3 {
        let mut counts = [1, 3, 1, 0];
        counts[at] = u32::MAX;
        assert_eq!(damage(|c| c.counts = Some(counts)), Some(Damage::IndexLength), "count {at}");
    }
    assert_eq!(damage(|c| c.counts = Some([1, 3, 1, 1])), Some(Damage::Reserved));
    assert_eq!(damage(|c| c.tail = vec![0]), Some(Damage::IndexLength));
}

#[test]
fn a_frame_that_decompresses_to_another_length_is_refused_without_a_page_of_it() {
    for raw_len in [8191, 8193, 64 << 20] {
        let stored = zstd::bulk::compress(&vec![7; raw_len], 1).unwrap();
        assert!(stored.len() < 8192);
        let mut crafted = Crafted::honest();
        crafted.frames[0].stored_len = stored.len() as u32;
        crafted.frames[0].encoding = 2;
        crafted.stored = stored;
        let image = crafted.open().unwrap();
        let out = tempfile::tempfile().unwrap();
        let error = image.materialise(&out, 1, &()).unwrap_err();
        let MaterialiseError::Read(ReadError::Damaged { damage, .. }) = error else { panic!("{error}") };
        assert_eq!(damage, Damage::FrameContent { frame: 0, offset: 64 });
        assert_eq!(out.metadata().unwrap().len(), 0);
    }
}
