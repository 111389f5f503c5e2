//! The fixed structures of a pack, as they lie on disk.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(super) const HEADER_MAGIC: [u8; 8] = *b"dormpak\0";
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"dormpke\0";
pub(super) const HEADER_LEN: u64 = size_of::<Header>() as u64;
pub(super) const FOOTER_LEN: u64 = size_of::<Footer>() as u64;
pub(super) const RECORD_LEN: u64 = size_of::<FrameRecord>() as u64;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    pub(super) flags: U32,
    pub(super) page_size: U32,
    pub(super) frame_pages: U32,
    pub(super) reserved: [u8; 40],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FrameRecord {
    pub(super) stored_len: U32,
    pub(super) encoding: u8,
    pub(super) reserved: [u8; 3],
    pub(super) checksum: [u8; 32],
}

/// What the footer says about the pack; part of its identity.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Extent {
    pub(super) table_offset: U64,
    pub(super) frames: U32,
    pub(super) pages: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Footer {
    pub(super) extent: Extent,
    pub(super) id: [u8; 32],
    pub(super) reserved: [u8; 8],
    pub(super) magic: [u8; 8],
}
