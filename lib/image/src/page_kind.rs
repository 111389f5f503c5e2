//! How an image holds a page.

use std::ops::Range;

use dormouse_guest_mem::PageClass;
use serde::{Deserialize, Serialize};

/// How an image holds a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PageKind {
    /// All bytes were zero.
    Zero = 1,
    /// The guest did not use the page: never read at the pause, reads as zero.
    Free = 2,
    /// The bytes are in a frame: of a pack, or of the image itself in version 1.
    Data = 3,
    /// The bytes are those of a block of the template's read-only disk.
    BaseDisk = 4,
    /// The bytes are those of a block of the snapshot's own writable disk.
    OverlayDisk = 5,
}

impl PageKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Zero, Self::Free, Self::Data, Self::BaseDisk, Self::OverlayDisk];

    /// The code in the image. 0 is never a kind, so blank bytes are no page map. Version 1 knows the first three.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// A run of pages of one kind and class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its pages.
    pub pages: Range<u32>,
    /// How the image holds them.
    pub kind: PageKind,
    /// What the guest used them for.
    pub class: PageClass,
}
