//! A damaged image is refused, or at least the damaged part of it: never a silent difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex};
use dormouse_image::{Damage, Digest, ImageReader, ImageRoot, MaterialiseError, ReadError};
use support::*;

/// Opens, verifies, reads every page and materialises. Nothing may differ from `ram`; returns whether all was refused.
fn refused(path: &Path, ram: &[u8]) -> bool {
    let Ok(image) = ImageReader::open(path, None) else { return true };
    let verified = image.verify(&()).is_ok();
    let mut unread = 0;
    for (page, expected) in (0..image.layout().pages()).zip(ram.as_chunks::<PAGE_SIZE>().0) {
        let mut content = [0xaa; PAGE_SIZE];
        match image.read_page(PageIndex(page), &mut content) {
            Ok(()) => assert!(content == *expected, "page {page} differs silently"),
            Err(_) => {
                assert!(content == [0xaa; PAGE_SIZE], "a failed read must leave the buffer alone");
                unread += 1;
            }
        }
    }
    let out = tempfile::tempfile().unwrap();
    let materialised = image.materialise(&out, 2, &()).is_ok();
    assert!(materialised || out.metadata().unwrap().len() == 0, "half-filled RAM was left behind");
    assert_eq!((verified, materialised), (unread == 0, unread == 0));
    unread > 0
}

#[test]
fn a_flipped_bit_in_any_byte_is_never_silent() {
    let (_dir, path) = copied_fixture();
    let (intact, restored) = (std::fs::read(&path).unwrap(), Mixed::new().restored());
    assert!(!refused(&path, &restored), "the intact image must pass");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    // All of the fixed parts and tables, and every 97th byte of the frames.
    let frames_end = intact.len() - 1024;
    for at in (0..intact.len()).filter(|at| *at < 128 || *at > frames_end || at % 97 == 0) {
        file.write_all_at(&[intact[at] ^ 1 << (at % 8)], at as u64).unwrap();
        assert!(refused(&path, &restored), "byte {at} of {}", intact.len());
        file.write_all_at(&[intact[at]], at as u64).unwrap();
    }
}

#[test]
fn an_image_cut_at_any_length_is_refused() {
    let (_dir, path) = copied_fixture();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for len in (0..path.metadata().unwrap().len()).rev() {
        file.set_len(len).unwrap();
        let error = ImageReader::open(&path, None).err().unwrap_or_else(|| panic!("opened at {len} bytes"));
        let message = error.to_string();
        assert!(
            message.contains("truncated") && message.contains("memory.img") && message.contains("delete it"),
            "{message}"
        );
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let (_dir, path) = copied_fixture();
    let intact = std::fs::read(&path).unwrap();
    for more in [vec![0], vec![0; 4096], intact[intact.len() - 64..].to_vec()] {
        std::fs::write(&path, [intact.clone(), more].concat()).unwrap();
        assert!(matches!(ImageReader::open(&path, None), Err(ReadError::Damaged { .. })));
    }
}

#[test]
fn an_intact_image_that_is_not_the_one_meant_is_refused() {
    let (_dir, path) = copied_fixture();
    let other = ImageRoot(Digest::of(b"other"));
    assert!(matches!(ImageReader::open(&path, Some(&other)), Err(ReadError::OtherImage { .. })));
}

#[test]
fn a_later_version_is_refused_as_such_whatever_else_the_file_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    let mut bytes = vec![0x5a; 300];
    bytes[..8].copy_from_slice(b"dormimg\0");
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = ImageReader::open(&path, None).err().unwrap();
    assert!(matches!(error, ReadError::Newer { version: 7, .. }));
    assert!(error.to_string().contains("upgrade dormouse"), "{error}");
}

#[test]
fn what_is_no_image_or_has_features_that_are_not_known_is_told_apart_from_damage() {
    let (_dir, path) = copied_fixture();
    let intact = std::fs::read(&path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut changed = intact.clone();
        changed[at] = byte;
        std::fs::write(&path, changed).unwrap();
        ImageReader::open(&path, None).err().unwrap()
    };
    assert!(matches!(with(0, b'D'), ReadError::NotAnImage { .. }));
    assert!(matches!(with(12, 2), ReadError::UnknownFlags { flags: 2, .. }));
}

#[test]
fn an_image_that_changes_after_it_was_opened_fails_when_it_is_read() {
    let (_dir, path) = copied_fixture();
    let image = ImageReader::open(&path, None).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0; 8192], 64).unwrap();
    let first_data = image.runs().find(|run| run.kind == dormouse_image::PageKind::Data).unwrap().pages.start;
    let mut content = [0; PAGE_SIZE];
    let error = image.read_page(PageIndex(first_data), &mut content).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { damage: Damage::FrameChecksum { frame: 0, .. }, .. }), "{error}");
    assert!(image.verify(&()).is_err());
}

#[test]
fn there_is_no_page_past_the_end_of_ram() {
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    for page in [64, 65, u32::MAX] {
        let error = image.read_page(PageIndex(page), &mut [0; PAGE_SIZE]).unwrap_err();
        assert!(matches!(error, ReadError::NoSuchPage { pages: 64, .. }));
    }
}

#[test]
fn ram_is_not_written_over_something_else() {
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ram");
    std::fs::write(&path, b"other").unwrap();
    let out = File::options().write(true).open(&path).unwrap();
    assert!(matches!(image.materialise(&out, 1, &()), Err(MaterialiseError::NotEmpty { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"other");
}

#[test]
fn a_cancelled_read_stops_as_such() {
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    assert!(matches!(image.verify(&CancelAfter::looks(2)), Err(ReadError::Cancelled { .. })));
    let out = tempfile::tempfile().unwrap();
    let error = image.materialise(&out, 2, &CancelAfter::looks(2)).unwrap_err();
    assert!(matches!(error, MaterialiseError::Read(ReadError::Cancelled { .. })), "{error}");
    assert_eq!(out.metadata().unwrap().len(), 0);
}

#[test]
fn ram_that_does_not_fit_its_file_system_leaves_an_empty_file() {
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    let small = SmallDisk::new(64 << 10);
    let out = File::create(small.path().join("ram")).unwrap();
    let error = image.materialise(&out, 2, &()).unwrap_err();
    let MaterialiseError::NoSpace { needed, available } = error else { panic!("{error}") };
    assert_eq!(needed, Bytes(46 * PAGE));
    assert!(available.0 > 0 && available <= Bytes(64 << 10), "{available}");
    assert_eq!(out.metadata().unwrap().len(), 0);
}

#[test]
fn a_materialised_file_takes_room_for_its_data_pages_only() {
    let image = ImageReader::open(&fixture("memory.img"), None).unwrap();
    let out = tempfile::tempfile().unwrap();
    image.materialise(&out, 2, &()).unwrap();
    let meta = out.metadata().unwrap();
    assert_eq!((meta.len(), meta.blocks() * 512), (64 * PAGE, 46 * PAGE));
}
