//! The disks that guest RAM may equal.

use std::fmt;
use std::fs::File;
use std::path::Path;

use crate::disk_index::DiskIndex;
use crate::page_kind::PageKind;

/// Which of a sandbox's disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskSlot {
    /// The template's read-only disk.
    Base,
    /// The snapshot's own writable disk.
    Overlay,
}

impl DiskSlot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Base, Self::Overlay];

    /// The kind of the pages whose bytes are on this disk.
    #[must_use]
    pub fn page_kind(self) -> PageKind {
        match self {
            Self::Base => PageKind::BaseDisk,
            Self::Overlay => PageKind::OverlayDisk,
        }
    }

    pub(crate) fn of(kind: PageKind) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.page_kind() == kind)
    }
}

impl fmt::Display for DiskSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base disk",
            Self::Overlay => "overlay disk",
        })
    }
}

/// A disk as a reader needs it.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// Which one.
    pub slot: DiskSlot,
    /// Its bytes.
    pub file: &'a File,
    /// What to call it in messages.
    pub path: &'a Path,
}

/// A disk at a pause: its bytes, and where to look for equal ones.
#[derive(Clone, Copy)]
pub struct DiskContent<'a> {
    /// Which one.
    pub slot: DiskSlot,
    /// Its bytes. Nobody may write them until the image is stored; a change is noticed when the image is read.
    pub file: &'a File,
    /// Where to look. An index that is out of date costs room, never content: every hit is compared with the bytes.
    pub index: &'a DiskIndex,
}
