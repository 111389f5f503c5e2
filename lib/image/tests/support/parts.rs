//! A small image of version 2 with everything in it: what the committed fixture is, and what is damaged in tests.

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamLayout};
use dormouse_image::{Codec, Disk, DiskSlot, Image, Parent, StoreOptions};

use super::lab::*;
use super::*;

pub(crate) const PAGES: u32 = 1030;

/// Two generations: 1030 pages (two chunks and a bit) in two regions, of which the second has pages of both packs, both
/// disks, duplicates, zeros and free pages.
pub(crate) struct Parts {
    pub(crate) lab: Lab,
    pub(crate) base: TestDisk,
    pub(crate) overlay: TestDisk,
    pub(crate) snapshot: Snapshot,
    pub(crate) restored: Vec<u8>,
    pub(crate) free: PageSet,
}

pub(crate) fn parts_layout() -> RamLayout {
    layout(PAGES, 600)
}

/// Content and free pages of the second generation.
pub(crate) fn parts_ram() -> (Vec<u8>, PageSet) {
    let (started, mut free) = (parts_started(), PageSet::new(PAGES));
    let mut ram = started;
    for number in 300..340 {
        page_mut(&mut ram, number).copy_from_slice(&text(u64::from(number) + 1_000_000));
    }
    for number in 500..540 {
        page_mut(&mut ram, number).copy_from_slice(&overlay_block(number - 500));
    }
    page_mut(&mut ram, 350).copy_from_slice(&text(1_000_300));
    page_mut(&mut ram, 700).fill(0);
    free.insert_range(800..830);
    (ram, free)
}

fn parts_started() -> Vec<u8> {
    let page = |number: u32| match number {
        0..40 => noise(number.into()),
        40..110 => base_block(number - 40),
        _ if number % 16 == 3 => [0; PAGE_SIZE],
        900.. => [0; PAGE_SIZE],
        _ => text(u64::from(number / 8)),
    };
    (0..PAGES).flat_map(page).collect()
}

/// The disks are mostly zeros, so that the committed ones are small.
pub(crate) fn base_block(block: u32) -> [u8; PAGE_SIZE] {
    text(u64::from(block) + 500_000)
}

pub(crate) fn overlay_block(block: u32) -> [u8; PAGE_SIZE] {
    text(u64::from(block) + 600_000)
}

impl Parts {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        let disk = |block: fn(u32) -> [u8; PAGE_SIZE], blocks| (0..blocks).flat_map(block).collect::<Vec<u8>>();
        let base = TestDisk::new(DiskSlot::Base, lab.path().join("base.ext4"), &disk(base_block, 70));
        let overlay = TestDisk::new(DiskSlot::Overlay, lab.path().join("overlay.ext4"), &disk(overlay_block, 40));
        let (layout, started) = (parts_layout(), parts_started());
        let disks = [base.content(), overlay.content()];
        let options = StoreOptions { threads: 2, codec: Codec::Zstd, level: 1, frame_pages: 8 };
        let first = lab.pause(&capture(&started, &layout, None, &disks, None), options, "first.idx").unwrap();
        let image = first.open();
        let (ram, free) = parts_ram();
        let mut written = PageSet::new(PAGES);
        (0..PAGES).filter(|n| page(&ram, *n) != page(&started, *n)).for_each(|n| written.insert(PageIndex(n)));
        let parent = Parent { image: &image, written: &written, ram: &started };
        let options = StoreOptions { codec: Codec::Lz4, ..options };
        let capture = capture(&ram, &layout, Some(&free), &disks, Some(parent));
        let snapshot = lab.pause(&capture, options, "memory.idx").unwrap();
        assert_eq!(snapshot.stored.packs.len(), 2);
        let pages = snapshot.stored.summary.pages;
        assert_eq!((pages.base_disk, pages.overlay_disk, pages.free), (70, 40, 30));
        let mut restored = ram;
        free.iter().for_each(|n| page_mut(&mut restored, n.0).fill(0));
        Self { lab, base, overlay, snapshot, restored, free }
    }

    pub(crate) fn disks(&self) -> [Disk<'_>; 2] {
        [self.base.disk(), self.overlay.disk()]
    }

    /// Verifies, reads every page and materialises. Nothing may differ silently; returns the errors.
    pub(crate) fn faults(&self) -> Vec<String> {
        let image = match Image::open(&self.snapshot.index, None) {
            Ok(image) => image,
            Err(error) => return vec![full(&error)],
        };
        let disks = self.disks();
        let mut faults = Vec::new();
        let verified = image.verify(&self.lab.packs, &disks, 2, &()).map_err(|error| faults.push(full(&error))).is_ok();
        let mut unread = 0;
        let mut reader = image.pages(&self.lab.packs, &disks);
        for number in 0..image.layout().pages() {
            let mut content = [0xaa; PAGE_SIZE];
            match reader.read(PageIndex(number), &mut content) {
                Ok(()) => assert!(content == *page(&self.restored, number), "page {number} differs silently"),
                Err(error) => {
                    assert!(content == [0xaa; PAGE_SIZE], "a failed read must leave the buffer alone");
                    faults.push(full(&error));
                    unread += 1;
                }
            }
        }
        let out = tempfile::tempfile().unwrap();
        let materialised = image.materialise(&self.lab.packs, &disks, &out, 2, &());
        let ok = materialised.is_ok();
        faults.extend(materialised.err().map(|error| full(&error)));
        assert!(ok || out.metadata().unwrap().len() == 0, "half-filled RAM was left behind");
        assert_eq!((verified, ok), (unread == 0, unread == 0), "{faults:?}");
        faults
    }
}

/// An error with all that caused it.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
