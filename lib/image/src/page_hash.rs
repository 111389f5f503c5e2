//! The hash that equal pages are found by. Not proof against someone who wants two pages to have the same: whoever relies
//! on pages being equal compares their bytes.

use xxhash_rust::xxh3::xxh3_128;

/// XXH3-128 of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageHash {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

impl PageHash {
    pub(crate) fn of(page: &[u8]) -> Self {
        let hash = xxh3_128(page);
        Self { high: (hash >> 64) as u64, low: hash as u64 }
    }
}
