//! Packs: immutable files of independently compressed frames of page data (`docs/formats/image.md`).

mod source;

pub use source::{DirPacks, PackRef, PackSource, PackUnavailable};

/// The most pages in a frame of a pack (1 MiB).
pub const MAX_FRAME_PAGES: u32 = 256;
