//! Version 1 of the memory image, byte by byte. All numbers are little endian; all reserved bytes are zero.
//!
//! ```text
//! offset 0        header   64 bytes   what this is, RAM size, frame size
//! 64              frames   ...        stored bytes of every frame, without gaps, in the order of the frame table
//! index_offset    index    ...        RAM regions, page map, frame table
//! end - 64        footer   64 bytes   where the index is, root hash
//! ```
//!
//! Header (64): magic `"dormimg\0"` (8), version u32 = 1, flags u32 = 0, RAM length in bytes u64, page size u32 = 4096,
//! most pages per frame u32, reserved (32).
//!
//! Index: number of regions u32, of runs u32, of frames u32, reserved u32; then the tables without gaps:
//!
//! ```text
//! region (24)  guest physical address u64, offset in the RAM file u64, length u64
//! run     (8)  pages u32, kind u8 (1 zero, 2 free, 3 data), class u8, reserved u16
//! frame  (48)  file offset u64, stored length u32, pages u16, encoding u8 (1 raw, 2 zstd), reserved u8, checksum 32
//! ```
//!
//! Runs follow each other from page 0 of the RAM file and cover it exactly. The data pages, in the order of the runs, are
//! cut into frames in the order of the frame table: the first frame holds the first `pages` of them, and so on.
//! A checksum is BLAKE3 over the frame's stored bytes. A zstd frame is one zstd frame (RFC 8878) without dictionary,
//! and is stored so only if that is shorter than `pages * 4096`.
//!
//! Footer (64): index offset u64, index length u64, root hash 32 (BLAKE3 over the header followed by the index),
//! reserved u64, magic `"dormend\0"` (8).
//!
//! # Limits, and what they keep off
//! A reader trusts no number before it is checked against these and against the length of the file:
//! - RAM ≤ 4 TiB and ≤ 16 regions (`RamLayout`), so that page numbers fit in 32 bits and no sum overflows;
//! - index ≤ [`MAX_INDEX_LEN`]: a sparse file costs its maker nothing, but would cost us its claimed length in memory;
//! - a frame holds 1 to [`MAX_FRAME_PAGES`] pages, and its stored form is never longer than its pages: bounds what one
//!   frame may allocate, whatever a compressed stream claims (decompression bombs).

mod index;
mod wire;

use zerocopy::IntoBytes;

use crate::digest::{Digest, ImageRoot};

pub(crate) use index::{FrameEntry, Index};
pub(crate) use wire::{FOOTER_LEN, FOOTER_MAGIC, FixedParts, Footer, HEADER_LEN, HEADER_MAGIC, Header};

/// The version that is described here.
pub(crate) const VERSION: u32 = 1;
/// The largest index, in bytes.
pub(crate) const MAX_INDEX_LEN: u64 = 1 << 30;
/// The most pages in a frame (16 MiB).
pub(crate) const MAX_FRAME_PAGES: u32 = 4096;

/// The root hash of an image with this header and these index bytes.
pub(crate) fn root_of(header: &Header, index: &[u8]) -> ImageRoot {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header.as_bytes()).update(index);
    ImageRoot(Digest(*hasher.finalize().as_bytes()))
}
