//! Addresses, page numbers and sizes as types, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Size of a guest page in bytes. Everything here counts in base pages of x86_64.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A guest physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestAddr(pub u64);

/// A page frame number: a guest physical address divided by the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

/// The number of a page within the RAM file, counted from the file's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u32);

/// A count of bytes. Displays in binary units (`123.4 MiB`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl GuestAddr {
    /// The frame that holds this address.
    #[must_use]
    pub fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// The address `delta` bytes on, or `None` past the end of the address space.
    #[must_use]
    pub fn checked_add(self, delta: u64) -> Option<Self> {
        self.0.checked_add(delta).map(Self)
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl PageIndex {
    /// Where the page starts in the RAM file.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.0) << PAGE_SHIFT
    }
}

impl Bytes {
    /// The size of `pages` base pages.
    #[must_use]
    pub fn of_pages(pages: u64) -> Self {
        Self(pages << PAGE_SHIFT)
    }

    /// `n` mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// This size in mebibytes, for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown to people with one decimal")]
    pub fn as_mib(self) -> f64 {
        self.0 as f64 / (1024.0 * 1024.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 1024 => write!(f, "{n} B"),
            n if n < 1 << 20 => write!(f, "{:.1} KiB", self.as_mib() * 1024.0),
            n if n < 1 << 30 => write!(f, "{:.1} MiB", self.as_mib()),
            _ => write!(f, "{:.2} GiB", self.as_mib() / 1024.0),
        }
    }
}
