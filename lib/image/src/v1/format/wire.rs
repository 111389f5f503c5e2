//! The fixed structures of the file, as they lie on disk.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) const HEADER_MAGIC: [u8; 8] = *b"dormimg\0";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"dormend\0";
pub(crate) const HEADER_LEN: u64 = size_of::<Header>() as u64;
pub(crate) const FOOTER_LEN: u64 = size_of::<Footer>() as u64;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) flags: U32,
    pub(crate) ram_len: U64,
    pub(crate) page_size: U32,
    pub(crate) frame_pages: U32,
    pub(crate) reserved: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Footer {
    pub(crate) index_offset: U64,
    pub(crate) index_len: U64,
    pub(crate) root: [u8; 32],
    pub(crate) reserved: [u8; 8],
    pub(crate) magic: [u8; 8],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct IndexHead {
    pub(super) regions: U32,
    pub(super) runs: U32,
    pub(super) frames: U32,
    pub(super) reserved: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RegionRecord {
    pub(super) guest: U64,
    pub(super) offset: U64,
    pub(super) len: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RunRecord {
    pub(super) pages: U32,
    pub(super) kind: u8,
    pub(super) class: u8,
    pub(super) reserved: U16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FrameRecord {
    pub(super) offset: U64,
    pub(super) stored_len: U32,
    pub(super) pages: U16,
    pub(super) encoding: u8,
    pub(super) reserved: u8,
    pub(super) checksum: [u8; 32],
}

/// What the header says that the index must agree with, and where the frames end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedParts {
    pub(crate) ram_len: u64,
    pub(crate) frame_pages: u32,
    pub(crate) index_offset: u64,
}
