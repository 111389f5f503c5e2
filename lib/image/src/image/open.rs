//! Which version a file is, and opening it as that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_guest_mem::Bytes;

use super::chunk::ram_digest;
use super::map::PageMap;
use super::{IndexImage, VERSION, Version, format};
use crate::digest::ImageRoot;
use crate::error::ReadError;
use crate::summary::ImageSummary;
use crate::v1::ImageReader;

/// Mark and version: what every version starts with.
const PROBE_LEN: usize = 12;

pub(super) fn open(file: File, path: &Path, expect: Option<&ImageRoot>) -> Result<Version, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let len = file.metadata().map_err(io)?.len();
    if len < PROBE_LEN as u64 {
        let (expected, found) = (Bytes(PROBE_LEN as u64), Bytes(len));
        return Err(ReadError::Truncated { path: path.to_owned(), expected, found });
    }
    let mut probe = [0; PROBE_LEN];
    file.read_exact_at(&mut probe, 0).map_err(io)?;
    let (mark, version) = probe.split_at(format::MAGIC.len());
    if mark != format::MAGIC {
        return Err(ReadError::NotAnImage { path: path.to_owned() });
    }
    match version.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) {
        version if version > VERSION => Err(ReadError::Newer { path: path.to_owned(), version }),
        VERSION => open_index(&file, path, expect),
        _ => ImageReader::from_file(file, path, expect).map(|image| Version::One(Box::new(image))),
    }
}

fn open_index(file: &File, path: &Path, expect: Option<&ImageRoot>) -> Result<Version, ReadError> {
    let (map, root, len) = format::decode(file, path)?;
    if let Some(expected) = expect.filter(|expected| **expected != root) {
        return Err(ReadError::OtherImage { path: path.to_owned(), expected: *expected, found: root });
    }
    Ok(Version::Two(Box::new(IndexImage {
        path: path.to_owned(),
        packs: map.packs.iter().map(|pack| pack.named).collect(),
        summary: summary(&map, root, len),
        ram_digest: ram_digest(&map.layout, &map.chunks),
        map,
    })))
}

/// What an image with this index holds, in figures.
pub(crate) fn summary(map: &PageMap, root: ImageRoot, index_len: u64) -> ImageSummary {
    let stored = Bytes(map.packs.iter().fold(0, |sum, pack| pack.named.len.0.saturating_add(sum)));
    ImageSummary::new(root, map.layout.len(), map.runs_by_class(), stored, Bytes(index_len))
}
