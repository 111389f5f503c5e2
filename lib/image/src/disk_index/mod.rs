//! Where on a disk a page's bytes may be found.

mod build;
mod file;

use std::ops::Range;

pub use file::DiskIndexError;
#[cfg(feature = "testing")]
pub use file::reseal;

use crate::page_hash::PageHash;

/// The largest disk that can be indexed: its blocks are numbered in 32 bits.
pub(crate) const MAX_DISK_LEN: u64 = 1 << 44;

/// The most entries of an index: 128 GiB of different blocks, whose index is 640 MiB. What does not fit is not found.
pub(crate) const MAX_ENTRIES: usize = 1 << 25;

/// For every 4 KiB block of a disk that is not zero: the XXH3-128 of its bytes, and the first block that has it.
///
/// A filter, not a proof: whoever finds a block must compare the bytes. Takes about 20 bytes for each block that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIndex {
    disk_len: u64,
    /// Ascending, no two alike.
    hashes: Vec<PageHash>,
    /// The block of each hash.
    blocks: Vec<u32>,
    /// Where in `hashes` the ones start that begin with these bits: hashes are spread evenly, so that is almost the place.
    buckets: Vec<u32>,
    bucket_bits: u32,
}

impl DiskIndex {
    /// Takes hashes that are ascending, no two alike.
    fn new(disk_len: u64, hashes: Vec<PageHash>, blocks: Vec<u32>) -> Self {
        let bucket_bits = (hashes.len().max(1).ilog2().saturating_sub(2)).clamp(1, 22);
        let mut buckets = Vec::with_capacity((1 << bucket_bits) + 1);
        let mut at = 0usize;
        for bucket in 0..1u64 << bucket_bits {
            let before = |hash: &PageHash| hash.high >> (64 - bucket_bits) < bucket;
            at += hashes.get(at..).unwrap_or_default().iter().take_while(|hash| before(hash)).count();
            buckets.push(at as u32);
        }
        buckets.push(hashes.len() as u32);
        Self { disk_len, hashes, blocks, buckets, bucket_bits }
    }

    /// Size of the disk.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        self.disk_len
    }

    /// Number of different blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the disk is all zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The first block whose bytes have this hash.
    pub(crate) fn find(&self, hash: PageHash) -> Option<u32> {
        let bucket = (hash.high >> (64 - self.bucket_bits)) as usize;
        let [from, to] = *self.buckets.get(bucket..)?.first_chunk()?;
        let Range { start, end } = from as usize..to as usize;
        let at = start + self.hashes.get(start..end)?.binary_search(&hash).ok()?;
        self.blocks.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_found_and_no_other() {
        for count in [0u64, 1, 2, 3, 700, 5000] {
            let hash = |n: u64| PageHash { high: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: n };
            let mut entries: Vec<_> = (0..count).map(|n| (hash(n), n as u32)).collect();
            entries.sort_unstable();
            let (hashes, blocks) = entries.into_iter().unzip();
            let index = DiskIndex::new(1 << 30, hashes, blocks);
            for n in 0..count {
                assert_eq!(index.find(hash(n)), Some(n as u32));
            }
            for n in count..count + 100 {
                assert_eq!(index.find(hash(n)), None);
            }
            for high in [0, u64::MAX] {
                assert_eq!(index.find(PageHash { high, low: u64::MAX }), None);
            }
        }
    }
}
