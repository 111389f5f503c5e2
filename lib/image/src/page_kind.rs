//! How an image holds a page.

use serde::{Deserialize, Serialize};

/// How an image of version 1 holds a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PageKind {
    /// All bytes were zero.
    Zero = 1,
    /// The guest did not use the page: never read at the pause, reads as zero.
    Free = 2,
    /// The bytes are in a frame.
    Data = 3,
}

impl PageKind {
    /// The code in the image. 0 is never a kind, so blank bytes are no page map; codes from 4 belong to later versions.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this code, or `None` if version 1 has none.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Zero, Self::Free, Self::Data].into_iter().find(|kind| kind.code() == code)
    }
}
