//! The file of an image index, byte by byte. All numbers are little endian; all reserved bytes are zero.
//!
//! ```text
//! 0          header   64 bytes   what this is, RAM size, lengths of the body
//! 64         body     ...        the page map in columns (`columns.rs`), compressed as one zstd frame
//! end - 32   root     32 bytes   BLAKE3 over header and compressed body: the identity of the image
//! ```
//!
//! A reader trusts no number before it is checked: the file is exactly as long as the header says, the body is not larger
//! than [`most_body`] allows for so much RAM, and nothing is decompressed before the root hash is right.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, RamLayout};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::map::{MAX_PACKS, PageMap};
use super::{MAX_INDEX_LEN, VERSION, columns};
use crate::digest::{Digest, ImageRoot};
use crate::error::{Damage, ReadError, WriteError};

pub(super) const MAGIC: [u8; 8] = *b"dormimg\0";
const HEADER_LEN: u64 = size_of::<Header>() as u64;
const ROOT_LEN: u64 = 32;
/// Level that the body is compressed with: it is small, and read often.
const LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    version: U32,
    flags: U32,
    ram_len: U64,
    page_size: U32,
    reserved: U32,
    body_len: U64,
    stored_len: U64,
    reserved_too: [u8; 16],
}

/// The most that a body may take for so many pages of RAM: every page a run of its own, with the longest numbers.
fn most_body(pages: u64) -> u64 {
    (48 * pages + 64 * MAX_PACKS as u64).min(MAX_INDEX_LEN)
}

/// The bytes of the index, and its root.
pub(crate) fn encode(map: &PageMap) -> Result<(Vec<u8>, ImageRoot), WriteError> {
    let body = columns::encode(map);
    if body.len() as u64 > most_body(map.layout.pages().into()) || map.packs.len() > MAX_PACKS {
        return Err(WriteError::TooFragmented);
    }
    seal(map.layout.len().0, &body).map_err(|source| WriteError::Compress { source })
}

/// The bytes of an index with this body, whatever it holds.
pub(crate) fn seal(ram_len: u64, body: &[u8]) -> io::Result<(Vec<u8>, ImageRoot)> {
    let stored = zstd::bulk::compress(body, LEVEL)?;
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        flags: 0.into(),
        ram_len: ram_len.into(),
        page_size: (PAGE_SIZE as u32).into(),
        reserved: 0.into(),
        body_len: (body.len() as u64).into(),
        stored_len: (stored.len() as u64).into(),
        reserved_too: [0; 16],
    };
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(&stored);
    let root = Digest::of(&out);
    out.extend_from_slice(&root.0);
    Ok((out, ImageRoot(root)))
}

/// Length of the body of this index.
pub(crate) fn body_len(map: &PageMap) -> u64 {
    columns::encode(map).len() as u64
}

/// An upper bound for the length of an index whose body has so many bytes.
pub(crate) fn most_file_len(body: u64) -> u64 {
    HEADER_LEN + body + body / 128 + 1024 + ROOT_LEN
}

/// Reads the index in `file`, whose mark and version are known to be right.
pub(super) fn decode(file: &File, path: &Path) -> Result<(PageMap, ImageRoot, u64), ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let damaged = |damage| ReadError::Damaged { path: path.to_owned(), damage };
    let truncated = |expected, found| ReadError::Truncated {
        path: path.to_owned(),
        expected: Bytes(expected),
        found: Bytes(found),
    };
    let found = file.metadata().map_err(io)?.len();
    if found < HEADER_LEN + ROOT_LEN {
        return Err(truncated(HEADER_LEN + ROOT_LEN, found));
    }
    let mut header = Header::new_zeroed();
    file.read_exact_at(header.as_mut_bytes(), 0).map_err(io)?;
    if header.flags.get() != 0 {
        return Err(ReadError::UnknownFlags { path: path.to_owned(), flags: header.flags.get() });
    }
    let (body_len, stored_len) = check_header(&header).map_err(damaged)?;
    let expected = HEADER_LEN + header.stored_len.get() + ROOT_LEN;
    if found < expected {
        return Err(truncated(expected, found));
    }
    if found > expected {
        return Err(damaged(Damage::NoFooter));
    }
    let mut stored = buffer(stored_len).map_err(io)?;
    file.read_exact_at(&mut stored, HEADER_LEN).map_err(io)?;
    let mut root = [0; 32];
    file.read_exact_at(&mut root, HEADER_LEN + header.stored_len.get()).map_err(io)?;
    if blake3::Hasher::new().update(header.as_bytes()).update(&stored).finalize() != root {
        return Err(damaged(Damage::RootHash));
    }
    let mut body = buffer(body_len).map_err(io)?;
    let decoded = zstd::bulk::decompress_to_buffer(&stored, body.as_mut_slice());
    if decoded.ok() != Some(body_len) {
        return Err(damaged(Damage::IndexContent));
    }
    let map = columns::decode(&body, header.ram_len.get()).map_err(damaged)?;
    Ok((map, ImageRoot(Digest(root)), found))
}

fn buffer(len: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    out.resize(len, 0);
    Ok(out)
}

/// Checks the numbers, and gives the lengths of the body as it is and as it is stored.
fn check_header(header: &Header) -> Result<(usize, usize), Damage> {
    if header.reserved.get() != 0 || header.reserved_too != [0; 16] {
        return Err(Damage::Reserved);
    }
    let ram_len = header.ram_len.get();
    if header.page_size.get() != PAGE_SIZE as u32 || ram_len > RamLayout::MAX_LEN.0 {
        return Err(Damage::Header);
    }
    let most = most_body(ram_len / PAGE_SIZE as u64);
    let (body, stored) = (header.body_len.get(), header.stored_len.get());
    if body > most || stored > most_file_len(most) {
        return Err(Damage::IndexPlace);
    }
    let len = |len: u64| usize::try_from(len).map_err(|_| Damage::IndexPlace);
    Ok((len(body)?, len(stored)?))
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::{GuestAddr, PageClass, RamRegion};

    use super::*;
    use crate::digest::PackId;
    use crate::image::map::{ClassRun, MapBuilder, PackEntry, Source};
    use crate::pack::PackRef;

    #[test]
    fn an_index_that_no_reader_would_take_is_not_written() {
        for (packs, fits) in [(MAX_PACKS, true), (MAX_PACKS + 1, false)] {
            let region = RamRegion { guest: GuestAddr(0), offset: 0, len: (packs * PAGE_SIZE) as u64 };
            let (layout, mut builder) = (RamLayout::new(vec![region]).unwrap(), MapBuilder::new());
            (0..packs).for_each(|pack| builder.push(1, Source::Data { pack: pack as u16, at: 0 }));
            let id = |n: usize| PackId(Digest::of(&n.to_le_bytes()));
            let entry = |n| PackEntry { named: PackRef { id: id(n), len: Bytes(200) }, pages: 1 };
            let classes = vec![ClassRun { start: 0, class: PageClass::default() }];
            let map = builder.finish(layout, (0..packs).map(entry).collect(), classes, vec![[0; 32]; 3]);
            let encoded = encode(&map);
            assert_eq!(encoded.is_ok(), fits);
            assert!(fits || matches!(encoded, Err(WriteError::TooFragmented)));
        }
    }
}
