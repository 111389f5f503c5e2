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

/// The hash of a chunk: BLAKE3 over its pages that are not zero, followed by a map with one bit for each page, set if it is
/// not zero. So zero pages cost nothing, and no other content has the same hash.
pub(crate) fn chunk_digest(content: &[u8], is_zero: impl Fn(usize) -> bool) -> [u8; 32] {
    let pages = content.len() / PAGE_SIZE;
    let mut hasher = blake3::Hasher::new();
    let mut map = [0u8; CHUNK_PAGES as usize / 8];
    let mut at = 0;
    while at < pages {
        let start = at;
        while at < pages && !is_zero(at) {
            if let Some(byte) = map.get_mut(at / 8) {
                *byte |= 1 << (at % 8);
            }
            at += 1;
        }
        hasher.update(content.get(start * PAGE_SIZE..at * PAGE_SIZE).unwrap_or_default());
        at += 1;
    }
    *hasher.update(&map).finalize().as_bytes()
}

/// The hash of a chunk of zero pages.
pub(crate) fn zero_digest() -> [u8; 32] {
    chunk_digest(&[], |_| true)
}

/// The identity of RAM with these chunks.
pub(crate) fn ram_digest(layout: &RamLayout, chunks: &[[u8; 32]]) -> RamDigest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dormram\0").update(&layout.len().0.to_le_bytes()).update(chunks.as_flattened());
    RamDigest(Digest(*hasher.finalize().as_bytes()))
}
