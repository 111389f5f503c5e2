//! RAM in chunks of 2 MiB: what is hashed as one.

use std::ops::Range;

use dormouse_guest_mem::{PAGE_SIZE, RamLayout};

use crate::digest::{Digest, RamDigest};

/// Pages in a chunk. The last one may be shorter.
pub(crate) const CHUNK_PAGES: u32 = 512;

/// The chunk that holds a page.
pub(crate) fn chunk_of(page: u32) -> u32 {
    page / CHUNK_PAGES
}

/// Number of chunks in RAM of so many pages.
pub(crate) fn chunk_count(pages: u32) -> u32 {
    pages.div_ceil(CHUNK_PAGES)
}

/// The pages of a chunk.
pub(crate) fn chunk_pages(chunk: u32, ram_pages: u32) -> Range<u32> {
    let start = chunk.saturating_mul(CHUNK_PAGES).min(ram_pages);
    start..start.saturating_add(CHUNK_PAGES).min(ram_pages)
}

/// The hash of so many zero pages.
pub(crate) fn zero_digest(pages: u32) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for _ in 0..pages {
        hasher.update(&[0; PAGE_SIZE]);
    }
    *hasher.finalize().as_bytes()
}

/// The identity of RAM with these chunks.
pub(crate) fn ram_digest(layout: &RamLayout, chunks: &[[u8; 32]]) -> RamDigest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dormram\0").update(&layout.len().0.to_le_bytes()).update(chunks.as_flattened());
    RamDigest(Digest(*hasher.finalize().as_bytes()))
}
