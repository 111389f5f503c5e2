//! Indexes of version 2 that lie: their hashes are right, so that only the rules of the format are left to refuse them.
//! The bytes are made here by hand, as a stranger would from `docs/formats/image.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use dormouse_guest_mem::{PageIndex, RamLayout};
use dormouse_image::{Damage, DirPacks, DiskIndex, Image, PageKind, ReadError, testing};
use proptest::prelude::*;
use support::lab::Lab;

const RAM_PAGES: u64 = 600;

/// The body of an index, column by column.
#[derive(Clone)]
struct Body {
    regions: Vec<(u64, u64)>,
    packs: Vec<([u8; 32], u64, u64)>,
    classes: Vec<(u8, u64)>,
    /// Kind and pages.
    runs: Vec<(u8, u64)>,
    data_packs: Vec<u64>,
    /// Differences, zigzag.
    places: Vec<u64>,
    hashes: usize,
    chunks: usize,
    more: Vec<u8>,
}

fn leb(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let more = value >= 128;
        out.push(value as u8 & 127 | u8::from(more) << 7);
        value >>= 7;
        if !more {
            return;
        }
    }
}

impl Body {
    /// 10 zero pages, 100 pages of a pack from its page 5 on, 50 blocks from block 7 on, 400 zero pages, the same 40 pages
    /// of the pack again.
    fn honest() -> Self {
        Self {
            regions: vec![(0, 500), (1 << 20, 100)],
            packs: vec![([9; 32], 1234, 200)],
            classes: vec![(0, 300), (4, 300)],
            runs: vec![(1, 10), (3, 100), (4, 50), (2, 400), (3, 40)],
            data_packs: vec![0, 0],
            // 5, then 7 on the disk, then back from 105 to 5.
            places: vec![10, 14, 199],
            hashes: 1,
            chunks: 2,
            more: Vec::new(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        leb(&mut out, self.regions.len() as u64);
        self.regions.iter().for_each(|r| leb(&mut out, r.0));
        self.regions.iter().for_each(|r| leb(&mut out, r.1));
        leb(&mut out, self.packs.len() as u64);
        self.packs.iter().for_each(|p| out.extend(p.0));
        self.packs.iter().for_each(|p| leb(&mut out, p.1));
        self.packs.iter().for_each(|p| leb(&mut out, p.2));
        for runs in [&self.classes, &self.runs] {
            leb(&mut out, runs.len() as u64);
            out.extend(runs.iter().map(|run| run.0));
            runs.iter().for_each(|run| leb(&mut out, run.1));
        }
        self.data_packs.iter().for_each(|pack| leb(&mut out, *pack));
        self.places.iter().for_each(|place| leb(&mut out, *place));
        out.extend(vec![7; 32 * (self.hashes + self.chunks)]);
        out.extend(&self.more);
        out
    }
}

fn open(ram_len: u64, body: &[u8]) -> Result<Image, ReadError> {
    let lab = Lab::new();
    let (bytes, root) = testing::seal_index(ram_len, body).unwrap();
    let path = lab.path().join("memory.idx");
    std::fs::write(&path, bytes).unwrap();
    Image::open(&path, Some(&root))
}

fn damage(change: impl FnOnce(&mut Body)) -> Option<Damage> {
    let mut body = Body::honest();
    change(&mut body);
    match open(RAM_PAGES * 4096, &body.bytes()) {
        Ok(_) => None,
        Err(ReadError::Damaged { damage, .. }) => Some(damage),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_honest_index_written_by_a_stranger_is_read() {
    let image = open(RAM_PAGES * 4096, &Body::honest().bytes()).unwrap();
    let runs: Vec<_> = image.runs().map(|run| (run.pages, run.kind)).collect();
    assert_eq!(runs.len(), 6, "one run more for the border of two classes");
    assert_eq!(runs[1], (10..110, PageKind::Data));
    assert_eq!(image.layout().regions()[1].guest.0, 1 << 32);
    assert_eq!(image.packs()[0].len.0, 1234);
    let packs = DirPacks::new("/nowhere".into());
    let mut content = [1; 4096];
    image.pages(&packs, &[]).read(PageIndex(3), &mut content).unwrap();
    assert_eq!(content, [0; 4096]);
    let error = image.pages(&packs, &[]).read(PageIndex(600), &mut content).unwrap_err();
    assert!(matches!(error, ReadError::NoSuchPage { page: 600, pages: 600, .. }), "{error}");
    let error = image.verify(&packs, &[], 1, &()).unwrap_err();
    assert!(matches!(error, ReadError::Pack(_)), "{error}");
}

#[test]
fn page_maps_that_do_not_cover_ram_exactly_with_places_that_there_are_are_refused() {
    let bad = Some(Damage::PageMap);
    assert_eq!(damage(|_| {}), None);
    assert_eq!(damage(|b| b.runs[0].1 = 9), bad, "too few pages");
    assert_eq!(damage(|b| b.runs[0].1 = 11), bad, "too many");
    assert_eq!(damage(|b| b.runs[0].1 = u64::from(u32::MAX)), bad, "far too many");
    assert_eq!(damage(|b| b.runs[0].1 = 0), bad, "an empty run");
    assert_eq!(damage(|b| b.runs[0].0 = 0), bad, "no kind");
    assert_eq!(damage(|b| b.runs[0].0 = 6), bad, "a later kind");
    assert_eq!(damage(|b| b.classes[0].0 = 9), bad, "a later class");
    assert_eq!(damage(|b| b.classes[0].1 = 301), bad, "classes past the end");
    assert_eq!(damage(|b| b.data_packs[1] = 1), bad, "no such pack");
    assert_eq!(damage(|b| b.packs[0].2 = 104), bad, "past the end of the pack");
    assert_eq!(damage(|b| b.packs[0].2 = 105), None, "up to the end of the pack");
    assert_eq!(damage(|b| b.places[0] = 9), bad, "before the start of the pack");
    assert_eq!(damage(|b| b.places[1] = u64::MAX), bad, "far before the start of the disk");
    assert_eq!(damage(|b| b.places[1] = 2 * u64::from(u32::MAX)), bad, "past the last block that there can be");
    let long = |b: &mut Body| (b.runs[2].1, b.runs[3].1) = (65, 385);
    assert_eq!(damage(long), bad, "too long a run of blocks");
    let crossing = |b: &mut Body| b.runs = vec![(1, 10), (3, 100), (2, 370), (4, 50), (2, 30), (3, 40)];
    assert_eq!(damage(crossing), bad, "blocks across the border of a chunk");
}

#[test]
fn tables_that_are_too_long_too_short_or_of_no_use_are_refused() {
    assert_eq!(damage(|b| b.more = vec![0]), Some(Damage::IndexLength));
    assert_eq!(damage(|b| b.hashes = 0), Some(Damage::IndexLength));
    assert_eq!(damage(|b| b.chunks = 1), Some(Damage::IndexLength));
    assert_eq!(damage(|b| b.chunks = 3), Some(Damage::IndexLength));
    assert_eq!(damage(|b| b.packs.push(([8; 32], 1, 1))), Some(Damage::PackTable), "a pack that nothing needs");
    let twice = |b: &mut Body| {
        b.packs.push(b.packs[0]);
        b.data_packs[1] = 1;
        b.places[2] = 10;
    };
    assert_eq!(damage(twice), Some(Damage::PackTable), "a pack that is named twice");
    assert_eq!(damage(|b| b.packs[0].2 = 0), Some(Damage::PackTable), "an empty pack");
    assert_eq!(damage(|b| b.regions[1].0 = 3), Some(Damage::Layout), "regions that overlap");
    assert_eq!(damage(|b| b.regions[1].1 = 99), Some(Damage::Layout), "another size of RAM");
    assert_eq!(damage(|b| b.regions[1].1 = 0), Some(Damage::Layout), "an empty region");
    assert_eq!(damage(|b| b.regions = vec![(0, 1); 17]), Some(Damage::Layout), "too many regions");
    assert_eq!(damage(|b| b.regions[1].0 = u64::MAX), Some(Damage::IndexLength), "an address that there is not");
}

#[test]
fn counts_that_lie_are_refused_before_anything_is_allocated() {
    let huge = |prefix: &[u8]| {
        let mut body = prefix.to_vec();
        leb(&mut body, u64::from(u32::MAX));
        match open(RAM_PAGES * 4096, &body) {
            Err(ReadError::Damaged { damage, .. }) => damage,
            other => panic!("{:?}", other.map(|_| ())),
        }
    };
    assert_eq!(huge(&[]), Damage::IndexLength);
    assert_eq!(huge(&[1, 0, 0xd8, 4]), Damage::IndexLength);
    assert_eq!(huge(&[1, 0, 0xd8, 4, 0]), Damage::IndexLength);
    assert_eq!(huge(&[1, 0, 0xd8, 4, 0, 1, 0, 0xd8, 4]), Damage::IndexLength);
    // More than an index of so little RAM can take, however small it is when compressed.
    let error = open(4096, &vec![0; 1 << 20]).err().unwrap();
    assert!(matches!(error, ReadError::Damaged { damage: Damage::IndexPlace, .. }), "{error}");
    let error = open(RamLayout::MAX_LEN.0 + 4096, &[]).err().unwrap();
    assert!(matches!(error, ReadError::Damaged { damage: Damage::Header, .. }), "{error}");
}

#[test]
fn a_body_of_another_length_than_the_header_says_is_refused() {
    let lab = Lab::new();
    let (honest, _) = testing::seal_index(RAM_PAGES * 4096, &Body::honest().bytes()).unwrap();
    for delta in [-1i64, 1] {
        let mut bytes = honest[..honest.len() - 32].to_vec();
        let len = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
        bytes[32..40].copy_from_slice(&(len as i64 + delta).to_le_bytes());
        let root = *blake3::hash(&bytes).as_bytes();
        let path = lab.path().join("memory.idx");
        std::fs::write(&path, [bytes, root.to_vec()].concat()).unwrap();
        let error = Image::open(&path, None).err().unwrap();
        assert!(matches!(error, ReadError::Damaged { damage: Damage::IndexContent, .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn any_body_is_an_index_or_an_error(mut body: Vec<u8>, cut in 0usize..400, at in 0usize..400, byte: u8) {
        let _ = open(RAM_PAGES * 4096, &body);
        body = Body::honest().bytes();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut.max(at + 1));
        if let Ok(image) = open(RAM_PAGES * 4096, &body) {
            let covered: u32 = image.runs().map(|run| run.pages.len() as u32).sum();
            prop_assert_eq!(u64::from(covered), RAM_PAGES);
        }
    }

    #[test]
    fn any_bytes_are_a_disk_index_or_an_error(mut bytes: Vec<u8>, entries in 0usize..20) {
        bytes.resize(64 + entries * 20 + 32, 3);
        let _ = testing::reseal_disk_index(&mut bytes);
        let lab = Lab::new();
        let path = lab.path().join("index");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(index) = DiskIndex::read(&path, None) {
            prop_assert_eq!(index.len(), entries);
        }
    }
}
