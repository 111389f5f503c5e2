//! Packs and disk indexes that lie: their hashes are right, so that only the rules of the format are left to refuse them.
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

use std::io::Write;
use std::os::unix::fs::FileExt;

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use dormouse_image::{Digest, DiskIndex, DiskIndexError, PackDamage, PackId, PackRef, ReadError, check_pack};
use support::{CancelAfter, PAGE, noise, text};

/// One frame and what the table says of it.
#[derive(Clone)]
struct Frame {
    stored: Vec<u8>,
    stored_len: u32,
    encoding: u8,
    reserved: [u8; 3],
}

impl Frame {
    fn new(encoding: u8, stored: Vec<u8>) -> Self {
        Self { stored_len: stored.len() as u32, stored, encoding, reserved: [0; 3] }
    }

    fn zstd(pages: &[[u8; PAGE_SIZE]]) -> Self {
        Self::new(2, zstd::bulk::compress(pages.as_flattened(), 1).unwrap())
    }
}

/// A pack, part by part.
#[derive(Clone)]
struct Pack {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    page_size: u32,
    frame_pages: u32,
    header_reserved: u8,
    frames: Vec<Frame>,
    /// Added to where the table is.
    table_shift: i64,
    frame_count: u32,
    pages: u32,
    footer_id: Option<[u8; 32]>,
    footer_reserved: u8,
    footer_magic: [u8; 8],
}

impl Pack {
    /// Five pages in three frames: one of each encoding that the tests need, the last one shorter.
    fn honest() -> Self {
        let frames = vec![
            Frame::new(1, [noise(1), noise(2)].concat()),
            Frame::zstd(&[text(3), text(4)]),
            Frame::zstd(&[text(5)]),
        ];
        Self {
            magic: *b"dormpak\0",
            version: 1,
            flags: 0,
            page_size: 4096,
            frame_pages: 2,
            header_reserved: 0,
            frames,
            table_shift: 0,
            frame_count: 3,
            pages: 5,
            footer_id: None,
            footer_reserved: 0,
            footer_magic: *b"dormpke\0",
        }
    }

    fn bytes(&self) -> (Vec<u8>, PackId) {
        let mut header = self.magic.to_vec();
        for number in [self.version, self.flags, self.page_size, self.frame_pages] {
            header.extend(number.to_le_bytes());
        }
        header.extend([0; 39]);
        header.push(self.header_reserved);
        let (mut frames, mut table) = (Vec::new(), Vec::new());
        for frame in &self.frames {
            frames.extend(&frame.stored);
            table.extend(frame.stored_len.to_le_bytes());
            table.push(frame.encoding);
            table.extend(frame.reserved);
            table.extend(blake3::hash(&frame.stored).as_bytes());
        }
        let table_offset = (64 + frames.len() as u64).wrapping_add_signed(self.table_shift);
        let mut extent = table_offset.to_le_bytes().to_vec();
        extent.extend(self.frame_count.to_le_bytes());
        extent.extend(self.pages.to_le_bytes());
        let id = PackId(Digest::of(&[header.as_slice(), &table, &extent].concat()));
        let said = self.footer_id.unwrap_or(id.0.0);
        let footer = [extent.as_slice(), &said, &[0; 7], &[self.footer_reserved], &self.footer_magic].concat();
        ([header, frames, table, footer].concat(), id)
    }

    fn check(&self) -> Result<PackRef, ReadError> {
        let (bytes, id) = self.bytes();
        check(&bytes, id)
    }
}

fn check(bytes: &[u8], id: PackId) -> Result<PackRef, ReadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    check_pack(file, &id, &())
}

fn damage(change: impl FnOnce(&mut Pack)) -> Option<PackDamage> {
    let mut pack = Pack::honest();
    change(&mut pack);
    match pack.check() {
        Ok(_) => None,
        Err(ReadError::PackDamaged { damage, .. }) => Some(damage),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_honest_pack_written_by_a_stranger_is_read() {
    let (bytes, id) = Pack::honest().bytes();
    assert_eq!(check(&bytes, id).unwrap(), PackRef { id, len: Bytes(bytes.len() as u64) });
}

#[test]
fn a_check_of_a_pack_can_be_cancelled() {
    let (bytes, id) = Pack::honest().bytes();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    assert!(matches!(check_pack(file, &id, &CancelAfter::looks(1)), Err(ReadError::Cancelled { .. })));
}

#[test]
fn packs_with_fields_that_the_version_does_not_have_are_refused() {
    let bad = Some(PackDamage::NotAPack);
    assert_eq!(damage(|p| p.magic[0] = b'D'), bad, "the mark");
    assert_eq!(damage(|p| p.version = 0), bad, "no version");
    assert_eq!(damage(|p| p.flags = 1), bad, "a feature");
    assert_eq!(damage(|p| p.page_size = 16384), bad, "larger pages");
    assert_eq!(damage(|p| p.frame_pages = 0), bad, "frames without pages");
    assert_eq!(damage(|p| p.header_reserved = 1), bad, "reserved bytes of the header");
    assert_eq!(damage(|p| p.footer_reserved = 1), bad, "reserved bytes of the footer");
    assert_eq!(damage(|p| p.footer_magic[0] = b'D'), bad, "the mark at the end");
    let one_large = |pages: u32| {
        move |p: &mut Pack| {
            (p.frame_pages, p.pages, p.frame_count) = (pages, pages, 1);
            p.frames = vec![Frame::zstd(&vec![[7; PAGE_SIZE]; pages as usize])];
        }
    };
    assert_eq!(damage(one_large(256)), None, "the largest frame");
    assert_eq!(damage(one_large(257)), bad, "a frame that is larger than any may be");
}

#[test]
fn a_file_that_is_shorter_than_any_pack_is_refused() {
    let (bytes, id) = Pack { frames: Vec::new(), frame_count: 0, pages: 0, ..Pack::honest() }.bytes();
    assert_eq!(bytes.len(), 128);
    check(&bytes, id).unwrap();
    for len in [0, 1, 64, 127] {
        let error = check(&bytes[..len], id).unwrap_err();
        assert!(matches!(error, ReadError::PackDamaged { damage: PackDamage::NotAPack, .. }), "{len}: {error}");
    }
}

#[test]
fn a_pack_that_names_itself_otherwise_is_refused() {
    assert_eq!(damage(|p| p.footer_id = Some([7; 32])), Some(PackDamage::Id));
    let (bytes, _) = Pack::honest().bytes();
    let other = PackId(Digest::of(b"other"));
    let error = check(&bytes, other).unwrap_err();
    assert!(matches!(error, ReadError::PackDamaged { damage: PackDamage::Id, .. }), "{error}");
    // The footer says what was asked for, the table says something else.
    let error = Pack { footer_id: Some(other.0.0), ..Pack::honest() };
    let error = check(&error.bytes().0, other).unwrap_err();
    assert!(matches!(error, ReadError::PackDamaged { damage: PackDamage::Id, .. }), "{error}");
}

#[test]
fn frame_tables_that_do_not_fit_the_file_are_refused() {
    let bad = Some(PackDamage::FrameTable);
    assert_eq!(damage(|_| {}), None);
    assert_eq!(damage(|p| p.pages = 4), bad, "a frame too many");
    assert_eq!(damage(|p| p.pages = 7), bad, "a frame too few");
    assert_eq!(damage(|p| (p.frame_count, p.pages) = (2, 4)), bad, "a table that ends before the footer");
    assert_eq!(damage(|p| (p.frame_count, p.pages) = (4, 8)), bad, "a table that is larger than the file");
    assert_eq!(damage(|p| p.table_shift = 40), bad, "a table past its place");
    assert_eq!(damage(|p| p.table_shift = i64::MAX), bad, "a table past the end of all files");
    assert_eq!(damage(|p| p.frames[0].encoding = 0), bad, "no encoding");
    assert_eq!(damage(|p| p.frames[0].encoding = 4), bad, "a later encoding");
    assert_eq!(damage(|p| p.frames[0].reserved = [0, 0, 1]), bad, "reserved bytes of the table");
    assert_eq!(damage(|p| p.frames[0] = Frame::new(1, vec![7; 2 * PAGE_SIZE - 1])), bad, "raw pages that are cut");
    assert_eq!(damage(|p| p.frames[1] = Frame::new(2, Vec::new())), bad, "a frame of nothing");
    assert_eq!(damage(|p| p.frames[1] = Frame::new(2, vec![7; 2 * PAGE_SIZE])), bad, "as large as what it holds");
    assert_eq!(damage(|p| p.frames[1] = Frame::new(3, vec![7; 1 << 20])), bad, "larger than what it holds");
    assert_eq!(damage(|p| p.frames[1].stored_len += 1), bad, "frames past the table");
    assert_eq!(damage(|p| p.frames[2].stored.push(0)), bad, "a gap before the table");
}

#[test]
fn a_frame_table_that_is_larger_than_any_can_be_is_not_read() {
    // A sparse file whose numbers fit each other: it costs nobody anything but whoever would read its table.
    let frames = (1u32 << 24) + 1;
    let pack = Pack { frames: Vec::new(), frame_pages: 1, frame_count: frames, pages: frames, ..Pack::honest() };
    let (bytes, id) = pack.bytes();
    let (file, len) = (tempfile::tempfile().unwrap(), 128 + 40 * u64::from(frames));
    file.set_len(len).unwrap();
    file.write_all_at(&bytes[..64], 0).unwrap();
    file.write_all_at(&bytes[64..], len - 64).unwrap();
    let error = check_pack(file, &id, &()).unwrap_err();
    assert!(matches!(error, ReadError::PackDamaged { damage: PackDamage::FrameTable, .. }), "{error}");
}

#[test]
fn a_frame_that_decompresses_to_another_length_is_refused_without_a_page_of_it() {
    for encoding in [2, 3] {
        for pages in [1, 3] {
            let raw = vec![7; pages * PAGE_SIZE];
            let stored =
                if encoding == 2 { zstd::bulk::compress(&raw, 1).unwrap() } else { lz4_flex::block::compress(&raw) };
            let found = damage(|p| p.frames[1] = Frame::new(encoding, stored));
            assert!(matches!(found, Some(PackDamage::FrameContent { frame: 1, .. })), "{encoding} {pages} {found:?}");
        }
        let found = damage(|p| p.frames[1] = Frame::new(encoding, vec![0xff; 100]));
        assert!(matches!(found, Some(PackDamage::FrameContent { frame: 1, .. })), "{encoding} {found:?}");
    }
}

/// A disk index, part by part.
struct Index {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    disk_len: u64,
    entries: u64,
    reserved: u8,
    /// Low half, high half, block.
    table: Vec<(u64, u64, u32)>,
}

impl Index {
    fn honest() -> Self {
        let table = vec![(5, 1, 9), (4, 2, 3), (5, 2, 0)];
        Self { magic: *b"dormdix\0", version: 1, flags: 0, disk_len: 10 * PAGE, entries: 3, reserved: 0, table }
    }

    fn read(&self) -> Result<DiskIndex, DiskIndexError> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.disk_len.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend([0; 31]);
        bytes.push(self.reserved);
        for (low, high, _) in &self.table {
            bytes.extend(low.to_le_bytes());
            bytes.extend(high.to_le_bytes());
        }
        self.table.iter().for_each(|(_, _, block)| bytes.extend(block.to_le_bytes()));
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend(checksum);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.index");
        std::fs::write(&path, bytes).unwrap();
        DiskIndex::read(&path, None)
    }
}

#[test]
fn disk_indexes_that_break_a_rule_are_refused() {
    let read = |change: fn(&mut Index)| {
        let mut index = Index::honest();
        change(&mut index);
        index.read()
    };
    assert_eq!(read(|_| {}).unwrap().len(), 3);
    let damaged = |change| matches!(read(change), Err(DiskIndexError::Damaged { .. }));
    assert!(matches!(read(|i| i.magic[0] = b'D'), Err(DiskIndexError::NotADiskIndex { .. })));
    assert!(matches!(read(|i| i.version = 0), Err(DiskIndexError::NotADiskIndex { .. })));
    assert!(matches!(read(|i| i.version = 2), Err(DiskIndexError::Newer { version: 2, .. })));
    assert!(matches!(read(|i| i.flags = 1), Err(DiskIndexError::Newer { .. })));
    assert!(damaged(|i| i.entries = 2), "a table that is longer than was said");
    assert!(damaged(|i| i.entries = u64::MAX), "a table without end");
    assert!(damaged(|i| i.reserved = 1), "reserved bytes");
    assert!(damaged(|i| i.disk_len = (1 << 44) + PAGE), "a disk that is larger than any can be");
    assert!(damaged(|i| i.table.swap(0, 1)), "hashes out of order");
    assert!(damaged(|i| i.table[2] = (4, 2, 0)), "a hash twice");
    assert!(damaged(|i| i.disk_len = 9 * PAGE), "a block past the end of the disk");
}

#[test]
fn a_disk_index_that_is_larger_than_any_can_be_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.index");
    // A sparse file: it costs nobody anything but whoever would read it.
    let most = 64 + (20 << 25) + 32;
    std::fs::File::create(&path).unwrap().set_len(most + 1).unwrap();
    let error = DiskIndex::read(&path, None).unwrap_err();
    assert!(error.to_string().contains("larger than any can be"), "{error}");
}
