//! The image, packs and disk index in `tests/fixtures/v2` were written when version 2 was new and are never written again:
//! they must be readable for ever, whatever the writer does by then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::{Path, PathBuf};

use dormouse_guest_mem::PageIndex;
use dormouse_image::manifest::Manifest;
use dormouse_image::{DirPacks, DiskIndex, DiskSlot, Image};
use support::class_of;
use support::lab::*;
use support::parts::*;

const ROOT: &str = "e76517a6e483576d9e9afd50584b565698088f405d0ca2c638c9ffe00a278cd3";
const RAM: &str = "425f758c4c848a57b270eef2220c3185d386da3990685e3a5924e5bf4bc3d8dd";
const DISK_INDEX: &str = "c611e01e4aa7caa216885d7399da744bc76edafb439cc748cc011194cfc66de6";

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v2").join(name)
}

#[test]
fn the_committed_image_of_version_2_is_read_for_ever() {
    let lab = Lab::new();
    let content = |block: fn(u32) -> [u8; 4096], blocks| (0..blocks).flat_map(block).collect::<Vec<u8>>();
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &content(base_block, 70));
    let overlay = TestDisk::new(DiskSlot::Overlay, lab.path().join("overlay"), &content(overlay_block, 40));
    let (packs, disks) = (DirPacks::new(committed("")), [base.disk(), overlay.disk()]);
    let image = Image::open(&committed("memory.idx"), Some(&ROOT.parse().unwrap())).unwrap();
    let (mut restored, free) = parts_ram();
    free.iter().for_each(|number| page_mut(&mut restored, number.0).fill(0));

    assert_eq!((image.version(), image.layout()), (2, &parts_layout()));
    assert_eq!(image.ram_digest().unwrap().to_string(), RAM);
    assert_eq!(digest_of(&restored), RAM);
    image.verify(&packs, &disks, 2, &()).unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    image.materialise(&packs, &disks, out.as_file(), 2, &()).unwrap();
    assert!(std::fs::read(out.path()).unwrap() == restored);
    for run in image.runs() {
        assert_eq!(run.class, class_of(PageIndex(run.pages.start)));
    }
    let pages = image.summary().pages;
    assert_eq!((pages.free, pages.zero, pages.data, pages.base_disk, pages.overlay_disk), (30, 174, 716, 70, 40));
    assert_eq!(image.packs().len(), 2);
}

#[test]
fn the_committed_disk_index_is_read_for_ever() {
    let lab = Lab::new();
    let content: Vec<u8> = (0..70).flat_map(base_block).collect();
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &content);
    let read = DiskIndex::read(&committed("base.index"), Some(&DISK_INDEX.parse().unwrap())).unwrap();
    assert_eq!(read, base.index, "the hash of a block never changes its meaning");
}

#[test]
fn the_committed_manifest_of_version_2_names_the_image_and_its_packs() {
    let manifest = Manifest::read(&committed("")).unwrap();
    assert_eq!((manifest.memory.root.to_string(), manifest.memory.ram.unwrap().to_string()), (ROOT.into(), RAM.into()));
    assert_eq!(manifest.memory.len.0, committed("memory.idx").metadata().unwrap().len());
    for pack in &manifest.memory.packs {
        assert_eq!(committed(&pack.id.file_name()).metadata().unwrap().len(), pack.len.0);
    }
    assert_eq!(manifest.memory.packs.len(), 2);
    assert_eq!(manifest.base_disk.index.unwrap().to_string(), DISK_INDEX);
}
