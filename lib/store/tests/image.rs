//! With real images: what a pause writes goes into the store, and is read from there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_guest_mem::{GuestAddr, PAGE_SIZE, PageClass, RamLayout, RamRegion};
use dormouse_image::{Capture, Image, StoreOptions, Stored, account};
use dormouse_store::{CheckError, ImagePacks, PackCheck, Packs, StagedPack, StoreError};
use support::{content, files};

mod support;

/// RAM, and what a pause stores of it in `dir`; the pack is staged.
fn paused(dir: &Path, packs: &Packs) -> (Vec<u8>, PathBuf, StagedPack, Stored) {
    let ram = content(1, 20 * PAGE_SIZE);
    let region = RamRegion { guest: GuestAddr(0), offset: 0, len: ram.len() as u64 };
    let layout = RamLayout::new(vec![region]).unwrap();
    let class_of = |_| PageClass::default();
    let capture = Capture { ram: &ram, layout: &layout, free: None, class_of: &class_of, disks: &[], parent: None };
    let staged = packs.stage().unwrap();
    let index = dir.join("memory.idx");
    let index_file = File::options().read(true).write(true).create(true).truncate(true).open(&index).unwrap();
    let options = StoreOptions::default();
    let stored = account(&capture, 1, &()).unwrap().store(&ram, staged.file(), &index_file, options, &()).unwrap();
    (ram, index, staged, stored)
}

#[test]
fn a_pack_from_the_writer_is_adopted_without_reading_its_frames_but_only_the_file_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::open(&dir.path().join("packs"), Arc::new(ImagePacks)).unwrap();
    let (ram, index, staged, stored) = paused(dir.path(), &packs);
    let sealed = stored.pack.unwrap();
    let id = sealed.named().id;

    // A copy, even a good one, is not what was written.
    let other = packs.stage().unwrap();
    io::copy(&mut &File::open(staged.path()).unwrap(), &mut other.file()).unwrap();
    assert!(matches!(packs.adopt(other, &sealed), Err(StoreError::Damaged { .. })));
    // Neither is a pack that was cut or changed where the frames are not.
    let len = staged.file().metadata().unwrap().len();
    for at in [0, 20, len - 60, len - 100] {
        let mut byte = [0];
        staged.file().read_exact_at(&mut byte, at).unwrap();
        staged.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert!(sealed.check(staged.file()).is_err(), "byte {at}");
        staged.file().write_all_at(&byte, at).unwrap();
    }
    staged.file().set_len(len + 1).unwrap();
    assert!(sealed.check(staged.file()).is_err());
    staged.file().set_len(len).unwrap();
    assert!(files(&dir.path().join("packs")).iter().all(|file| file.starts_with("staging")), "nothing was taken in");

    let pins = packs.adopt(staged, &sealed).unwrap();
    assert!(packs.is_pinned(&id));
    packs.verify(&id).unwrap();
    let image = Image::open(&index, Some(&stored.root)).unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    image.materialise(&packs, &[], out.as_file(), 1, &()).unwrap();
    assert!(fs::read(out.path()).unwrap() == ram);
    drop(pins);
}

#[test]
fn an_image_is_read_from_the_store_and_every_changed_byte_of_its_pack_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::open(&dir.path().join("packs"), Arc::new(ImagePacks)).unwrap();
    let (ram, index, staged, stored) = paused(dir.path(), &packs);
    let id = stored.pack.unwrap().named().id;
    let _pins = packs.put(staged, &id).unwrap();

    let image = Image::open(&index, Some(&stored.root)).unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    image.materialise(&packs, &[], out.as_file(), 1, &()).unwrap();
    assert!(fs::read(out.path()).unwrap() == ram);

    let text = id.to_string();
    let path = packs.root().join(&text[..2]).join(format!("{text}.pack"));
    let whole = fs::read(&path).unwrap();
    let ends = [0, 7, 100, whole.len() / 2, whole.len() - 60, whole.len() - 1];
    for at in ends.into_iter().chain((0..whole.len()).step_by(997)) {
        let mut bad = whole.clone();
        bad[at] ^= 0x20;
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bad).unwrap();
        assert!(matches!(packs.verify(&id), Err(StoreError::Damaged { .. })), "byte {at}");
    }
    // What cannot be read is not said to be damaged.
    let unreadable = File::options().append(true).open(&path).unwrap();
    assert!(matches!(ImagePacks.check(&id, &unreadable), Err(CheckError::Unreadable(_))));
    for len in [0, 1, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(matches!(packs.verify(&id), Err(StoreError::Damaged { .. })), "{len} bytes");
    }
    fs::remove_file(&path).unwrap();
    let error = image.verify(&packs, &[], 1, &()).unwrap_err();
    assert!(error.to_string().contains(&text), "{error}");
}
