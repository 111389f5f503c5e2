//! What the tests share: packs whose id is the hash of the whole file, and a store to put them in.
#![allow(dead_code, reason = "each test uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use dormouse_image::Digest;
use dormouse_store::{CheckError, PackCheck, PackId, Packs, Pins, SnapshotName, StoreError};

/// A pack is whatever hashes to its name.
#[derive(Debug)]
pub(crate) struct Hashed;

impl PackCheck for Hashed {
    fn check(&self, id: &PackId, mut file: &File) -> Result<(), CheckError> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(CheckError::Unreadable)?;
        let found = id_of(&bytes);
        if found == *id { Ok(()) } else { Err(CheckError::Damaged(format!("it hashes to {found}").into())) }
    }
}

pub(crate) fn id_of(bytes: &[u8]) -> PackId {
    PackId(Digest::of(bytes))
}

pub(crate) fn open(root: &Path) -> Packs {
    Packs::open(root, Arc::new(Hashed)).unwrap()
}

/// Bytes that differ by `seed`.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut bytes {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *byte = word.to_le_bytes()[0];
    }
    bytes
}

pub(crate) fn try_put(packs: &Packs, bytes: &[u8]) -> Result<(PackId, Pins), StoreError> {
    let staged = packs.stage()?;
    staged.file().write_all(bytes).unwrap();
    let id = id_of(bytes);
    let pins = packs.put(staged, &id)?;
    Ok((id, pins))
}

/// Takes a pack in and lets go of its pin.
pub(crate) fn put(packs: &Packs, bytes: &[u8]) -> PackId {
    put_pinned(packs, bytes).0
}

pub(crate) fn put_pinned(packs: &Packs, bytes: &[u8]) -> (PackId, Pins) {
    try_put(packs, bytes).unwrap()
}

pub(crate) fn read(packs: &Packs, id: &PackId) -> Vec<u8> {
    let mut bytes = Vec::new();
    packs.open_pack(id).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn name(text: &str) -> SnapshotName {
    text.try_into().unwrap()
}

/// Files below `root`, as paths relative to it.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
