//! What stops a pause or a compaction of version 2, and what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, PageSet, RamSource};
use dormouse_image::{
    CompactionPolicy, DirPacks, DiskIndex, DiskSlot, Image, MaterialiseError, Parent, Progress, ReadError,
    StoreOptions, WriteError, account, compact,
};
use support::lab::*;
use support::parts::Parts;
use support::*;

const OPTIONS: StoreOptions =
    StoreOptions { threads: 2, codec: dormouse_image::Codec::Zstd, level: 1, frame_pages: 16 };

/// 4 MiB of which 900 pages are data and half of those can be compressed.
fn big_ram() -> Vec<u8> {
    let page = |p: u64| match p {
        0..900 if p.is_multiple_of(2) => text(p),
        0..900 => noise(p),
        _ => [0; 4096],
    };
    (0..1024).flat_map(page).collect()
}

#[test]
fn on_a_full_disk_the_pause_says_how_much_room_would_do() {
    let (ram, layout) = (big_ram(), layout(1024, 1024));
    let accounting = account(&capture(&ram, &layout, None, &[], None), 2, &()).unwrap();
    let store = |disk: &SmallDisk| {
        let create =
            |name| File::options().read(true).write(true).create_new(true).open(disk.path().join(name)).unwrap();
        accounting.store(&ram, &create("pack"), &create("index"), OPTIONS, &())
    };
    let small = SmallDisk::new(1 << 20);
    let WriteError::NoSpace { needed, available } = store(&small).unwrap_err() else { panic!("not NoSpace") };
    assert!(available.0 > 0 && available <= Bytes(1 << 20), "{available}");
    assert!(needed <= Bytes(900 * PAGE + 64 * 1024), "zero pages must not be counted: {needed}");
    let enough = SmallDisk::new(needed.0);
    let stored = store(&enough).unwrap();
    assert!(stored.pack.as_ref().unwrap().named().len.0 + stored.index_len.0 <= needed.0);
}

#[test]
fn a_device_that_is_full_from_the_first_byte_on_is_reported_as_full() {
    let (lab, ram, layout) = (Lab::new(), big_ram(), layout(1024, 1024));
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let accounting = account(&capture(&ram, &layout, None, &[], None), 2, &()).unwrap();
    let error = accounting.store(&ram, &full(), &lab.create("index"), OPTIONS, &()).unwrap_err();
    let WriteError::NoSpace { needed, .. } = error else { panic!("{error}") };
    assert!(needed >= Bytes(900 * PAGE));
    let error = accounting.store(&ram, &lab.create("pack"), &full(), OPTIONS, &()).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace { .. }), "{error}");

    let image = lab.first(&ram, &layout, None, "first").open();
    let half = CompactionPolicy { max_packs: 1, min_live_percent: 101 };
    let error =
        compact(&image, &lab.packs, &BTreeSet::new(), half, (&full(), &lab.create("index")), OPTIONS, &()).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace { .. }), "{error}");
    let error = Parts::new().base.index.write(&full()).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace { .. }), "{error}");
}

#[test]
fn ram_that_does_not_fit_its_file_system_leaves_an_empty_file() {
    let (lab, layout) = (Lab::new(), layout(1024, 1024));
    let image = lab.first(&big_ram(), &layout, None, "first").open();
    let small = SmallDisk::new(1 << 20);
    let out = File::create(small.path().join("ram")).unwrap();
    let error = image.materialise(&lab.packs, &[], &out, 2, &()).unwrap_err();
    let MaterialiseError::NoSpace { needed, available } = error else { panic!("{error}") };
    assert_eq!(needed, Bytes(900 * PAGE));
    assert!(available.0 > 0 && available <= Bytes(1 << 20), "{available}");
    assert_eq!(out.metadata().unwrap().len(), 0);
    let taken = lab.create("taken");
    taken.set_len(1).unwrap();
    assert!(matches!(image.materialise(&lab.packs, &[], &taken, 2, &()), Err(MaterialiseError::NotEmpty { .. })));
}

#[test]
fn everything_that_takes_long_can_be_cancelled() {
    let (lab, ram, layout) = (Lab::new(), big_ram(), layout(1024, 1024));
    let after = CancelAfter::looks;
    let capture = capture(&ram, &layout, None, &[], None);
    for n in 1..3 {
        assert!(matches!(account(&capture, 2, &after(n)), Err(WriteError::Cancelled)));
    }
    let accounting = account(&capture, 2, &()).unwrap();
    for n in 1..3 {
        let error = accounting.store(&ram, &lab.create("pack"), &lab.create("index"), OPTIONS, &after(n)).unwrap_err();
        assert!(matches!(error, WriteError::Cancelled), "{error}");
    }
    let parts = Parts::new();
    let disks = parts.disks();
    let image = parts.snapshot.open();
    assert!(matches!(image.verify(&parts.lab.packs, &disks, 2, &after(2)), Err(ReadError::Cancelled { .. })));
    let out = tempfile::tempfile().unwrap();
    let error = image.materialise(&parts.lab.packs, &disks, &out, 2, &after(2)).unwrap_err();
    assert!(matches!(error, MaterialiseError::Read(ReadError::Cancelled { .. })), "{error}");
    assert_eq!(out.metadata().unwrap().len(), 0);
    assert!(matches!(DiskIndex::build(&parts.base.file, 2, &after(1)), Err(WriteError::Cancelled)));
    let flat = CompactionPolicy::FLAT;
    let (pack, index) = (lab.create("pack"), lab.create("index"));
    let error =
        compact(&image, &parts.lab.packs, &BTreeSet::new(), flat, (&pack, &index), OPTIONS, &after(1)).unwrap_err();
    assert!(matches!(error, WriteError::Cancelled), "{error}");
}

/// Gives up when all of RAM has been looked at.
#[derive(Default)]
struct CancelAtTheEnd(AtomicBool);

impl Progress for CancelAtTheEnd {
    fn advance(&self, done: Bytes, total: Bytes) {
        self.0.fetch_or(done == total, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_guest_of_equal_pages_does_not_hold_a_cancelled_pause_up() {
    let ram: Vec<u8> = (0..64).flat_map(|page| noise(page % 8)).collect();
    let result = account(&capture(&ram, &layout(64, 64), None, &[], None), 1, &CancelAtTheEnd::default());
    assert!(matches!(result, Err(WriteError::Cancelled)));
}

#[test]
fn ram_that_can_not_be_read_stops_the_pause_and_names_the_place() {
    let (lab, layout) = (Lab::new(), layout(1024, 1024));
    let mut forbidden = PageSet::new(1024);
    forbidden.insert(PageIndex(700));
    let bytes = big_ram();
    let ram = WatchedRam { bytes: bytes.clone(), populated: std::iter::once(0..1024 * PAGE).collect(), forbidden };
    let error = account(&capture(&ram, &layout, None, &[], None), 2, &()).err().unwrap();
    let WriteError::Ram { offset, .. } = error else { panic!("{error}") };
    assert!((512 * PAGE..=700 * PAGE).contains(&offset), "{offset}");

    // Also where nothing else tells that something is missing.
    let alone = WatchedRam { populated: std::iter::once(700 * PAGE..701 * PAGE).collect(), ..ram };
    let error = account(&capture(&alone, &layout, None, &[], None), 1, &()).err().unwrap();
    assert!(matches!(error, WriteError::Ram { offset, .. } if offset == 700 * PAGE), "{error}");
    let ram = alone;

    let accounting = account(&capture(&bytes, &layout, None, &[], None), 2, &()).unwrap();
    let (pack, index) = (lab.create("pack"), lab.create("index"));
    let error = accounting.store(&ram, &pack, &index, OPTIONS, &()).unwrap_err();
    assert!(matches!(error, WriteError::Ram { .. }), "{error}");
    assert_eq!(index.metadata().unwrap().len(), 0, "what is left must be no image");

    let image = lab.first(&bytes, &layout, None, "first").open();
    let mut written = PageSet::new(1024);
    written.insert(PageIndex(700));
    let parent = Parent { image: &image, written: &written, ram: &ram };
    let error = account(&capture(&bytes, &layout, None, &[], Some(parent)), 2, &()).err().unwrap();
    assert!(matches!(error, WriteError::ParentRam { .. }), "{error}");
}

#[test]
fn sizes_that_do_not_belong_together_are_refused() {
    let (lab, ram) = (Lab::new(), vec![1u8; 64 * 4096]);
    let (fits, free, image) = (layout(64, 64), PageSet::new(63), Parts::new().snapshot.open());
    let mismatch = |result: Result<_, WriteError>| matches!(result.err(), Some(WriteError::LengthMismatch { .. }));
    assert!(mismatch(account(&capture(&ram, &layout(65, 65), None, &[], None), 1, &())));
    assert!(mismatch(account(&capture(&ram, &fits, Some(&free), &[], None), 1, &())));
    let parent = Parent { image: &image, written: &free, ram: &ram };
    assert!(mismatch(account(&capture(&ram, &fits, None, &[], Some(parent)), 1, &())));
    let accounting = account(&capture(&ram, &fits, None, &[], None), 1, &()).unwrap();
    let store = |ram: &Vec<u8>, options| accounting.store(ram, &lab.create("p"), &lab.create("i"), options, &());
    assert!(matches!(store(&vec![0; 4096], OPTIONS), Err(WriteError::LengthMismatch { .. })));
    for (frame_pages, threads) in [(0, 1), (257, 1), (1, 0), (1, 65)] {
        let options = StoreOptions { frame_pages, threads, ..OPTIONS };
        assert!(matches!(store(&ram, options), Err(WriteError::BadOptions { .. })));
    }
    let backwards = Range { start: 5 * PAGE, end: 4 * PAGE };
    let bad =
        [(vec![0..PAGE, 0..PAGE], 0), (vec![0..PAGE, PAGE..65 * PAGE], PAGE), (vec![0..PAGE, backwards], 5 * PAGE)];
    for (populated, offset) in bad {
        let lying = WatchedRam { bytes: ram.clone(), populated, forbidden: PageSet::new(64) };
        let error = account(&capture(&lying, &fits, None, &[], None), 1, &()).err().unwrap();
        assert!(matches!(error, WriteError::BadRanges { offset: found } if found == offset), "{error}");
    }
    let (taken, empty) = (lab.create("taken"), lab.create("empty"));
    taken.set_len(1).unwrap();
    assert!(matches!(accounting.store(&ram, &taken, &empty, OPTIONS, &()), Err(WriteError::NotEmpty { .. })));
    assert!(matches!(accounting.store(&ram, &empty, &taken, OPTIONS, &()), Err(WriteError::NotEmpty { .. })));
    let disk = TestDisk::new(DiskSlot::Base, lab.path().join("disk"), &ram);
    assert!(matches!(disk.index.write(&taken), Err(WriteError::NotEmpty { .. })));
    let unreadable = File::options().write(true).open(&disk.path).unwrap();
    assert!(matches!(DiskIndex::build(&unreadable, 1, &()), Err(WriteError::DiskRead { offset: 0, .. })));
    // Only some file systems have files as large as that.
    let small = SmallDisk::new(1 << 20);
    let huge = File::create_new(small.path().join("disk")).unwrap();
    huge.set_len((1 << 44) + 4096).unwrap();
    assert!(matches!(DiskIndex::build(&huge, 1, &()), Err(WriteError::DiskTooLarge { .. })));
}

/// RAM that says something else each time that it is asked.
struct LyingRam(AtomicU64);

impl RamSource for LyingRam {
    fn len(&self) -> u64 {
        1024 * PAGE
    }

    fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
        for page in buf.chunks_mut(PAGE_SIZE) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            match number % 5 {
                0 => page.fill(0),
                1 => page.copy_from_slice(&text(1)),
                _ => page.copy_from_slice(&noise(number)),
            }
        }
        Ok(())
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(std::iter::once(0..self.len()).collect())
    }
}

#[test]
fn ram_that_changes_under_the_pause_gives_an_image_that_fails_its_check() {
    let (lab, layout) = (Lab::new(), layout(1024, 1024));
    let disk: Vec<u8> = (0..64).flat_map(text).collect();
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &disk);
    let (ram, disks) = (LyingRam(AtomicU64::new(0)), [base.content()]);
    let snapshot = lab.pause(&capture(&ram, &layout, None, &disks, None), OPTIONS, "first").unwrap();
    let image = snapshot.open();
    let out = tempfile::tempfile().unwrap();
    image.materialise(&lab.packs, &[base.disk()], &out, 2, &()).unwrap();
    let error = image.verify(&lab.packs, &[base.disk()], 2, &()).unwrap_err();
    assert!(matches!(error, ReadError::OtherContent { .. }), "{error}");
    assert!(error.to_string().contains("gives other RAM than was paused"), "{error}");

    let honest = big_ram();
    let first = lab.first(&honest, &layout, None, "honest").open();
    let mut written = PageSet::new(1024);
    written.insert_range(100..900);
    let parent = Parent { image: &first, written: &written, ram: &ram };
    lab.pause(&capture(&ram, &layout, None, &disks, Some(parent)), OPTIONS, "child").unwrap();
}

#[test]
fn compaction_stops_at_a_damaged_or_missing_pack() {
    let parts = Parts::new();
    let image: Image = parts.snapshot.open();
    let run = |packs: &DirPacks| {
        let (pack, index) = (parts.lab.create("half.pack"), parts.lab.create("half.idx"));
        compact(&image, packs, &BTreeSet::new(), CompactionPolicy::FLAT, (&pack, &index), OPTIONS, &())
    };
    assert!(run(&parts.lab.packs).unwrap().is_some());
    let error = run(&DirPacks::new("/nowhere".into())).unwrap_err();
    assert!(matches!(error, WriteError::Read(ReadError::Pack(_))), "{error}");
    let path = parts.lab.packs.path(&image.packs()[0].id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = run(&parts.lab.packs).unwrap_err();
    assert!(matches!(error, WriteError::Read(ReadError::PackDamaged { .. })), "{error}");
}
