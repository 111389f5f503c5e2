//! What the guest kernel uses a page for.

use serde::{Deserialize, Serialize};

/// The guest kernel's use of a page, as far as its page structures tell. A report for people and for placement:
/// correctness must never depend on it, except that [`Free`](Self::Free) and [`Offline`](Self::Offline) carry no content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PageClass {
    /// Nothing is known (no introspection, or no page structure for it).
    #[default]
    Unknown = 0,
    /// On the page allocator's free lists.
    Free = 1,
    /// Given back to the host by a balloon; the guest does not read it.
    Offline = 2,
    /// Page cache of a file on a disk.
    PageCache = 3,
    /// Anonymous memory of a process.
    Anonymous = 4,
    /// tmpfs and shared memory.
    Shmem = 5,
    /// Slab allocator.
    Slab = 6,
    /// Page tables.
    PageTable = 7,
    /// Kernel text, data, page structures and everything else that is in use.
    Kernel = 8,
}

impl PageClass {
    /// Every class, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Free,
        Self::Offline,
        Self::PageCache,
        Self::Anonymous,
        Self::Shmem,
        Self::Slab,
        Self::PageTable,
        Self::Kernel,
    ];

    /// The code that formats store. Codes never change their meaning.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The class with this code, or `None` for a code of a later version.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_later_codes_are_unknown_to_us() {
        for class in PageClass::ALL {
            assert_eq!(PageClass::from_code(class.code()), Some(class));
        }
        assert_eq!(PageClass::from_code(PageClass::ALL.len() as u8), None);
    }
}
