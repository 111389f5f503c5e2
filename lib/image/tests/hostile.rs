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

use dormouse_guest_mem::{PageIndex, PageSet, RamLayout};
use dormouse_image::{Damage, DirPacks, DiskIndex, Image, PageKind, Parent, ReadError, StoreOptions, testing};
use proptest::prelude::*;
use support::lab::{Lab, capture};
use support::{layout, noise};

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
    assert_eq!(damage(|b| b.runs[0].1 = 0), bad, "an empty run and too few pages");
    assert_eq!(damage(|b| b.runs.insert(0, (1, 0))), bad, "an empty run");
    let round = |b: &mut Body| drop(b.runs.splice(0..0, [(1, u64::from(u32::MAX)), (1, 1)]));
    assert_eq!(damage(round), bad, "runs that go all the way round");
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
    for delta in [-1i64, 1] {
        let error = open_changed(|bytes| {
            let len = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
            bytes[32..40].copy_from_slice(&(len as i64 + delta).to_le_bytes());
        });
        let error = error.err().unwrap();
        assert!(matches!(error, ReadError::Damaged { damage: Damage::IndexContent, .. }), "{error}");
    }
}

/// The file of an honest index with this change of its header, whose hash is right again.
fn open_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Image, ReadError> {
    let (honest, _) = testing::seal_index(RAM_PAGES * 4096, &Body::honest().bytes()).unwrap();
    let mut bytes = honest[..honest.len() - 32].to_vec();
    change(&mut bytes);
    let root = *blake3::hash(&bytes).as_bytes();
    let lab = Lab::new();
    let path = lab.path().join("memory.idx");
    std::fs::write(&path, [bytes, root.to_vec()].concat()).unwrap();
    Image::open(&path, None)
}

#[test]
fn headers_with_fields_that_the_version_does_not_have_are_refused() {
    let damage = |at: usize, value: u8| match open_changed(|bytes| bytes[at] = value) {
        Err(ReadError::Damaged { damage, .. }) => damage,
        other => panic!("byte {at}: {:?}", other.err()),
    };
    assert!(open_changed(|_| {}).is_ok());
    let error = open_changed(|bytes| bytes[12] = 1).err().unwrap();
    assert!(matches!(error, ReadError::UnknownFlags { flags: 1, .. }), "{error}");
    assert_eq!(damage(25, 32), Damage::Header, "larger pages");
    assert_eq!(damage(28, 1), Damage::Reserved);
    assert_eq!(damage(63, 1), Damage::Reserved);
    // A body that is stored longer than the longest that there can be, although the file is as long as it says.
    let long = |bytes: &mut Vec<u8>| {
        bytes.resize(64 + (1 << 20), 0);
        bytes[40..48].copy_from_slice(&(1u64 << 20).to_le_bytes());
    };
    let error = open_changed(long).err().unwrap();
    assert!(matches!(error, ReadError::Damaged { damage: Damage::IndexPlace, .. }), "{error}");
}

/// The body of an index of so many pages, each of a pack of its own.
fn one_pack_each(pages: u64) -> Body {
    let id = |n: u64| *blake3::hash(&n.to_le_bytes()).as_bytes();
    Body {
        regions: vec![(0, pages)],
        packs: (0..pages).map(|n| (id(n), 200, 1)).collect(),
        classes: vec![(0, pages)],
        runs: vec![(3, 1); pages as usize],
        data_packs: (0..pages).collect(),
        places: vec![0; pages as usize],
        hashes: 0,
        chunks: pages.div_ceil(512) as usize,
        more: Vec::new(),
    }
}

#[test]
fn more_packs_than_an_image_may_name_are_refused() {
    let open = |pages: u64| open(pages * 4096, &one_pack_each(pages).bytes());
    assert_eq!(open(1024).unwrap().packs().len(), 1024);
    let error = open(1025).err().unwrap();
    assert!(matches!(error, ReadError::Damaged { damage: Damage::PackTable, .. }), "{error}");
}

#[test]
fn a_parent_that_names_as_many_packs_as_there_can_be_is_no_parent_but_the_pause_succeeds() {
    let parent = open(1024 * 4096, &one_pack_each(1024).bytes()).unwrap();
    let (lab, layout, ram) = (Lab::new(), layout(1024, 1024), vec![7; 1024 * 4096]);
    let mut written = PageSet::new(1024);
    written.insert(PageIndex(3));
    let parent = Parent { image: &parent, written: &written, ram: &vec![0; 1024 * 4096] };
    let capture = capture(&ram, &layout, None, &[], Some(parent));
    let snapshot = lab.pause(&capture, StoreOptions::default(), "child").unwrap();
    assert_eq!(snapshot.stored.packs.len(), 1);
    assert!(lab.materialised(&snapshot.open(), &[], 1) == ram);
}

#[test]
fn a_pack_with_another_number_of_pages_than_the_index_says_is_refused() {
    let (lab, ram) = (Lab::new(), (0..600).flat_map(noise).collect::<Vec<u8>>());
    let pack = lab.first(&ram, &layout(600, 600), None, "first").stored.pack.unwrap().named();
    let mut body = Body { packs: vec![(pack.id.0.0, pack.len.0, 600)], ..Body::honest() };
    body.runs = vec![(1, 560), (3, 40)];
    (body.data_packs, body.places, body.hashes) = (vec![0], vec![0], 0);
    for (pages, right) in [(600, true), (599, false), (601, false)] {
        body.packs[0].2 = pages;
        let image = open(RAM_PAGES * 4096, &body.bytes()).unwrap();
        let read = image.materialise(&lab.packs, &[], &tempfile::tempfile().unwrap(), 1, &());
        assert_eq!(read.is_ok(), right, "{pages}: {:?}", read.err());
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
