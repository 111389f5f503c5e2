//! What the pages that a pause stores take by each way of compressing them, and what that costs.
//!
//! The ways that `lib/image` offers, and one that it does not: zstd with a dictionary that was trained on the pages of the parent, which is
//! the template's snapshot where a sandbox is paused for the first time.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, RamSource};
use zstd::bulk::{Compressor, Decompressor};

use crate::cpu_time;

/// Pages that are compressed together, as in a pack.
const FRAME: usize = 16 * PAGE_SIZE;
/// What the zstd program takes by default; a dictionary is trained on a hundred times as much.
const DICTIONARY: usize = 110 << 10;
const SAMPLES: usize = 100 * DICTIONARY;

/// Every way, on the pages that the parent has not.
#[derive(Clone, Debug)]
pub(crate) struct Trials {
    pub(crate) raw: Bytes,
    pub(crate) each: Vec<Trial>,
}

/// One way, on all pages.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) stored: Bytes,
    /// CPU time of one thread.
    pub(crate) encode: Duration,
    pub(crate) decode: Duration,
}

/// The parent: what it has is not stored again.
#[derive(Debug)]
pub(crate) struct Known {
    hashes: HashSet<[u8; 32]>,
    dictionary: Vec<u8>,
}

impl Known {
    /// `pages` are the parent's, in the order of its pack.
    pub(crate) fn of(ram: &dyn RamSource, pages: &[PageIndex]) -> io::Result<Self> {
        let mut hashes = HashSet::new();
        let bytes = new_pages(ram, pages, &mut hashes)?;
        let frames: Vec<&[u8]> = bytes.chunks(FRAME).collect();
        let every = (bytes.len() / SAMPLES).max(1);
        let samples: Vec<&[u8]> = frames.into_iter().step_by(every).collect();
        Ok(Self { hashes, dictionary: zstd::dict::from_samples(&samples, DICTIONARY)? })
    }

    /// Tries every way on those of `pages` that the parent has not.
    pub(crate) fn try_all(&self, ram: &dyn RamSource, pages: &[PageIndex]) -> io::Result<Trials> {
        let bytes = new_pages(ram, pages, &mut self.hashes.clone())?;
        let each = vec![
            zstd("zstd, level 1", &bytes, Compressor::new(1)?, Decompressor::new()?)?,
            zstd("zstd, level 3", &bytes, Compressor::new(3)?, Decompressor::new()?)?,
            zstd(
                "zstd, level 1, with a dictionary",
                &bytes,
                Compressor::with_dictionary(1, &self.dictionary)?,
                Decompressor::with_dictionary(&self.dictionary)?,
            )?,
            lz4(&bytes)?,
        ];
        Ok(Trials { raw: Bytes(bytes.len() as u64), each })
    }
}

/// The bytes of each page whose content is not in `seen`, which it is afterwards.
fn new_pages(ram: &dyn RamSource, pages: &[PageIndex], seen: &mut HashSet<[u8; 32]>) -> io::Result<Vec<u8>> {
    let (mut bytes, mut page) = (Vec::new(), [0; PAGE_SIZE]);
    for at in pages {
        ram.read_at(at.offset(), &mut page)?;
        if seen.insert(*blake3::hash(&page).as_bytes()) {
            bytes.extend_from_slice(&page);
        }
    }
    Ok(bytes)
}

fn zstd(
    name: &'static str,
    bytes: &[u8],
    mut compressor: Compressor<'_>,
    mut decompressor: Decompressor<'_>,
) -> io::Result<Trial> {
    let encode = |frame: &[u8]| compressor.compress(frame);
    let decode = |stored: &[u8], len| decompressor.decompress(stored, len);
    trial(name, bytes, encode, decode)
}

fn lz4(bytes: &[u8]) -> io::Result<Trial> {
    let encode = |frame: &[u8]| Ok(lz4_flex::block::compress(frame));
    let decode = |stored: &[u8], len| lz4_flex::block::decompress(stored, len).map_err(io::Error::other);
    trial("lz4", bytes, encode, decode)
}

fn trial(
    name: &'static str,
    bytes: &[u8],
    mut encode: impl FnMut(&[u8]) -> io::Result<Vec<u8>>,
    mut decode: impl FnMut(&[u8], usize) -> io::Result<Vec<u8>>,
) -> io::Result<Trial> {
    let begun = cpu_time::of_thread();
    let frames: Vec<Vec<u8>> = bytes.chunks(FRAME).map(&mut encode).collect::<io::Result<_>>()?;
    let encoded = cpu_time::of_thread();
    let mut stored = 0;
    for (raw, frame) in bytes.chunks(FRAME).zip(&frames) {
        // What does not become smaller is stored as it is.
        stored += raw.len().min(frame.len());
        if std::hint::black_box(decode(frame, raw.len())?).len() != raw.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(Trial { name, stored: Bytes(stored as u64), encode: encoded - begun, decode: cpu_time::of_thread() - encoded })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen pages of text, different in every page, and the same number of noise.
    fn ram(seed: u64) -> Vec<u8> {
        let mut state = seed;
        let noise = std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        let text = (0..16).flat_map(|page| format!("{seed} page {page:4} of a text ").into_bytes().repeat(256));
        let text: Vec<u8> = text.collect::<Vec<_>>().chunks(PAGE_SIZE).take(16).flatten().copied().collect();
        text.into_iter().chain(noise.take(FRAME)).collect()
    }

    fn pages(of: std::ops::Range<u32>) -> Vec<PageIndex> {
        of.map(PageIndex).collect()
    }

    #[test]
    fn only_what_is_new_is_compressed_and_noise_is_stored_as_it_is() {
        let parent: Vec<u8> = (0..200).flat_map(ram).collect();
        let known = Known::of(&parent, &pages(0..6400)).unwrap();
        let mut ram = parent[..4 * PAGE_SIZE].to_vec();
        ram.extend(self::ram(1000));
        let Trials { raw, each } = known.try_all(&ram, &pages(0..36)).unwrap();
        assert_eq!(raw, Bytes(2 * FRAME as u64), "the parent's four pages are not among them");
        for Trial { name, stored, .. } in each {
            assert!(stored.0 < FRAME as u64 + 16_000, "{name}: {stored}");
        }
        let Trials { raw, each } = known.try_all(&ram, &pages(20..36)).unwrap();
        assert!(each.iter().all(|trial| trial.stored == raw), "{each:?}");
    }
}
