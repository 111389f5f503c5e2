//! What stops a write, and what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use dormouse_guest_mem::{Bytes, PageIndex, PageSet};
use dormouse_image::publish::Staging;
use dormouse_image::{ImageReader, MaterialiseError, Omit, Progress, ReadError, WriteError, WriteOptions, write};
use support::*;

/// 4 MiB of which half can be compressed, with zero pages at the end, so that much is unknown when the disk is full.
fn big_ram() -> Vec<u8> {
    let page = |p: u64| match p {
        0..900 if p.is_multiple_of(2) => text(p),
        0..900 => noise(p),
        _ => [0; 4096],
    };
    (0..1024).flat_map(page).collect()
}

#[test]
fn on_a_full_disk_the_write_says_how_much_room_would_do_and_leaves_nothing() {
    let (ram, layout, options) =
        (big_ram(), layout(1024, 1024), WriteOptions { frame_pages: 16, ..Default::default() });
    let small = SmallDisk::new(1 << 20);
    let staging = Staging::create(small.path(), "snapshot").unwrap();
    let error = write_to(&staging.path().join("memory.img"), &ram, &layout, None, options).unwrap_err();
    drop(staging);
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0, "the staging folder is left behind");
    let WriteError::NoSpace { needed, available } = error else { panic!("{error}") };
    assert!(available.0 > 0 && available <= Bytes(1 << 20), "{available}");
    assert!(needed <= Bytes(900 * PAGE + 64 * 1024), "zero pages must not be counted: {needed}");

    let enough = SmallDisk::new(needed.0);
    let summary = write_to(&enough.path().join("memory.img"), &ram, &layout, None, options).unwrap();
    assert!(summary.file_len <= needed && summary.file_len > available);
}

#[test]
fn a_device_that_is_full_from_the_first_byte_on_is_reported_as_full() {
    let out = File::options().write(true).open("/dev/full").unwrap();
    let (ram, layout) = (big_ram(), layout(1024, 1024));
    let omit = Omit { free: None, class_of: &class_of };
    let error = write(&ram, &layout, &omit, &out, WriteOptions::default(), &()).unwrap_err();
    let WriteError::NoSpace { needed, .. } = error else { panic!("{error}") };
    assert!(needed >= Bytes(900 * PAGE));
}

#[test]
fn ram_that_does_not_fit_its_file_system_leaves_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    write_to(&path, &big_ram(), &layout(1024, 1024), None, WriteOptions::default()).unwrap();
    let small = SmallDisk::new(1 << 20);
    let out = File::create(small.path().join("ram")).unwrap();
    let error = ImageReader::open(&path, None).unwrap().materialise(&out, 2, &()).unwrap_err();
    let MaterialiseError::NoSpace { needed, available } = error else { panic!("{error}") };
    assert_eq!(needed, Bytes(900 * PAGE));
    assert!(available.0 > 0 && available <= Bytes(1 << 20), "{available}");
    assert_eq!(out.metadata().unwrap().len(), 0);
}

struct CancelAfter(AtomicU64);

impl Progress for CancelAfter {
    fn advance(&self, _done: Bytes, _total: Bytes) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[test]
fn a_cancelled_write_or_read_stops_as_such() {
    let mixed = Mixed::new();
    let (ram, layout) = (big_ram(), layout(1024, 1024));
    let omit = Omit { free: None, class_of: &class_of };
    for after in [1, 2, 9] {
        let out = tempfile::tempfile().unwrap();
        let error = write(&ram, &layout, &omit, &out, mixed.options, &CancelAfter(after.into())).unwrap_err();
        assert!(matches!(error, WriteError::Cancelled), "{error}");
    }
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    assert!(matches!(image.verify(&CancelAfter(2.into())), Err(ReadError::Cancelled { .. })));
    let out = tempfile::tempfile().unwrap();
    let error = image.materialise(&out, 2, &CancelAfter(2.into())).unwrap_err();
    assert!(matches!(error, MaterialiseError::Read(ReadError::Cancelled { .. })), "{error}");
    assert_eq!(out.metadata().unwrap().len(), 0);
}

#[test]
fn ram_that_can_not_be_read_stops_the_write_and_names_the_place() {
    let mut forbidden = PageSet::new(1024);
    forbidden.insert(PageIndex(700));
    let ram = WatchedRam { bytes: big_ram(), populated: vec![0..700 * PAGE, 700 * PAGE..1024 * PAGE], forbidden };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    let error = write_to(&path, &ram, &layout(1024, 1024), None, WriteOptions::default()).unwrap_err();
    let WriteError::Ram { offset, .. } = error else { panic!("{error}") };
    assert!((640 * PAGE..=700 * PAGE).contains(&offset), "{offset}");
    assert!(ImageReader::open(&path, None).is_err(), "what is left must be no image");
}

#[test]
fn sizes_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ram) = (dir.path().join("memory.img"), vec![0u8; 64 * 4096]);
    let free = PageSet::new(63);
    let one = |ram: &Vec<u8>, pages, free: Option<&PageSet>, options| {
        write_to(&path, ram, &layout(pages, pages), free, options).map(|_| ())
    };
    let default = WriteOptions::default();
    assert!(matches!(one(&ram, 65, None, default), Err(WriteError::LengthMismatch { .. })));
    assert!(matches!(one(&ram, 64, Some(&free), default), Err(WriteError::LengthMismatch { .. })));
    for options in [WriteOptions { frame_pages: 0, ..default }, WriteOptions { frame_pages: 4097, ..default }] {
        assert!(matches!(one(&ram, 64, None, options), Err(WriteError::BadOptions { .. })));
    }
    for (populated, offset) in [(vec![0..PAGE, 0..PAGE], 0), (vec![0..PAGE, PAGE..65 * PAGE], PAGE)] {
        let lying = WatchedRam { bytes: ram.clone(), populated, forbidden: PageSet::new(64) };
        let error = write_to(&path, &lying, &layout(64, 64), None, default).unwrap_err();
        assert!(matches!(error, WriteError::BadRanges { offset: found } if found == offset), "{error}");
    }
}
