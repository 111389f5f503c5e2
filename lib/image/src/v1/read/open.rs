//! The checks that come before any page is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::digest::{Digest, ImageRoot};
use crate::error::{Damage, ReadError};
use crate::v1::format::{
    FOOTER_LEN, FOOTER_MAGIC, FixedParts, Footer, HEADER_LEN, HEADER_MAGIC, Header, Index, MAX_FRAME_PAGES,
    MAX_INDEX_LEN, VERSION, root_of,
};

pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) root: ImageRoot,
    pub(super) file_len: u64,
}

pub(super) fn open(file: &File, path: &Path) -> Result<Opened, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let damaged = |damage| ReadError::Damaged { path: path.to_owned(), damage };
    let file_len = file.metadata().map_err(io)?.len();
    let header = read_header(file, path, file_len)?;
    let footer: Footer = read_fixed(file, file_len - FOOTER_LEN).map_err(io)?;
    let index_len = check_footer(&footer, file_len).map_err(damaged)?;
    let index_offset = footer.index_offset.get();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(index_len).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
    bytes.resize(index_len, 0);
    file.read_exact_at(&mut bytes, index_offset).map_err(io)?;
    let root = root_of(&header, &bytes);
    if root != ImageRoot(Digest(footer.root)) {
        return Err(damaged(Damage::RootHash));
    }
    check_header(&header).map_err(damaged)?;
    let fixed = FixedParts { ram_len: header.ram_len.get(), frame_pages: header.frame_pages.get(), index_offset };
    let index = Index::decode(&bytes, &fixed).map_err(damaged)?;
    Ok(Opened { index, root, file_len })
}

fn read_fixed<T: FromBytes + IntoBytes + FromZeros>(file: &File, offset: u64) -> io::Result<T> {
    let mut value = T::new_zeroed();
    file.read_exact_at(value.as_mut_bytes(), offset)?;
    Ok(value)
}

/// Reads the header as far as every version has it: mark, version, flags.
fn read_header(file: &File, path: &Path, file_len: u64) -> Result<Header, ReadError> {
    let path = || path.to_owned();
    let expected = HEADER_LEN + FOOTER_LEN;
    if file_len < expected {
        return Err(ReadError::Truncated { path: path(), expected: Bytes(expected), found: Bytes(file_len) });
    }
    let header: Header = read_fixed(file, 0).map_err(|source| ReadError::Io { path: path(), source })?;
    if header.magic != HEADER_MAGIC {
        return Err(ReadError::NotAnImage { path: path() });
    }
    match (header.version.get(), header.flags.get()) {
        (version, _) if version > VERSION => Err(ReadError::Newer { path: path(), version }),
        (0, _) => Err(ReadError::Damaged { path: path(), damage: Damage::Header }),
        (_, 0) => Ok(header),
        (_, flags) => Err(ReadError::UnknownFlags { path: path(), flags }),
    }
}

/// Checks where the index lies, and gives its length.
fn check_footer(footer: &Footer, file_len: u64) -> Result<usize, Damage> {
    if footer.magic != FOOTER_MAGIC {
        return Err(Damage::NoFooter);
    }
    if footer.reserved != [0; 8] {
        return Err(Damage::Reserved);
    }
    let (offset, len) = (footer.index_offset.get(), footer.index_len.get());
    let ends_at_footer = offset.checked_add(len) == Some(file_len - FOOTER_LEN);
    if offset < HEADER_LEN || !ends_at_footer || len > MAX_INDEX_LEN {
        return Err(Damage::IndexPlace);
    }
    usize::try_from(len).map_err(|_| Damage::IndexPlace)
}

fn check_header(header: &Header) -> Result<(), Damage> {
    if header.reserved != [0; 32] {
        return Err(Damage::Reserved);
    }
    let sizes_fit =
        header.page_size.get() == PAGE_SIZE as u32 && (1..=MAX_FRAME_PAGES).contains(&header.frame_pages.get());
    if sizes_fit { Ok(()) } else { Err(Damage::Header) }
}
