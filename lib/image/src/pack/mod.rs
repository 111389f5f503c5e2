//! Packs: immutable files of independently compressed frames of page data (`docs/formats/image.md`).
//!
//! ```text
//! 0               header   64 bytes   what this is, pages per frame
//! 64              frames   ...        stored bytes of every frame, without gaps, in the order of the frame table
//! table_offset    table    40 bytes for each frame: stored length, encoding, checksum
//! end - 64        footer   64 bytes   where the table is, number of frames and pages, id
//! ```
//!
//! Every frame but the last holds exactly as many pages as the header says. The id is BLAKE3 over header, table and the
//! first 16 bytes of the footer: it commits to every byte of the pack through the checksums in the table.

mod read;
#[cfg(feature = "testing")]
mod reseal;
mod seal;
mod source;
mod wire;
mod write;

use zerocopy::IntoBytes;

pub use read::check_pack;
pub(crate) use read::{FrameReader, OpenPack};
#[cfg(feature = "testing")]
pub use reseal::reseal;
pub use seal::SealedPack;
pub use source::{DirPacks, PackRef, PackSource, PackUnavailable};
pub(crate) use write::{Feed, FeedReader, NewPack, write_pack};

use crate::digest::{Digest, PackId};
use wire::{Extent, Header};

/// The version of packs that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// The most pages in a frame of a pack (1 MiB): bounds what one frame may allocate, whatever a compressed stream claims.
pub const MAX_FRAME_PAGES: u32 = 256;
/// The most frames in a pack: bounds the memory that a frame table may take.
pub(crate) const MAX_FRAMES: u32 = 1 << 24;

fn id_of(header: &Header, table: &[u8], extent: &Extent) -> PackId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header.as_bytes()).update(table).update(extent.as_bytes());
    PackId(Digest(*hasher.finalize().as_bytes()))
}
