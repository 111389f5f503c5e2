//! Where the bytes of RAM went.

use std::collections::BTreeMap;

use dormouse_guest_mem::{Bytes, PageClass};
use serde::{Deserialize, Serialize};

use crate::digest::ImageRoot;
use crate::page_kind::{PageKind, Run};

/// Pages counted by how the image holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// Pages left out because the guest did not use them.
    pub free: u32,
    /// Pages left out because all their bytes were zero.
    pub zero: u32,
    /// Pages whose bytes are in frames.
    pub data: u32,
    /// Pages whose bytes are on the template's disk.
    pub base_disk: u32,
    /// Pages whose bytes are on the snapshot's own disk.
    pub overlay_disk: u32,
}

impl KindCounts {
    /// All pages.
    #[must_use]
    pub fn pages_total(&self) -> u32 {
        self.free + self.zero + self.data + self.base_disk + self.overlay_disk
    }

    fn add(&mut self, kind: PageKind, pages: u32) {
        let count = match kind {
            PageKind::Free => &mut self.free,
            PageKind::Zero => &mut self.zero,
            PageKind::Data => &mut self.data,
            PageKind::BaseDisk => &mut self.base_disk,
            PageKind::OverlayDisk => &mut self.overlay_disk,
        };
        *count += pages;
    }
}

/// What an image holds, in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Identity of the image.
    pub root: ImageRoot,
    /// Size of the guest's RAM.
    pub ram: Bytes,
    /// All pages of RAM by kind.
    pub pages: KindCounts,
    /// The same for each use that the guest kernel makes of pages; every class is present.
    pub by_class: BTreeMap<PageClass, KindCounts>,
    /// What the data is stored in: all packs that the image names, whole; in version 1 the frames.
    pub stored: Bytes,
    /// Size of the image's own file: the index; in version 1 with the frames.
    pub file_len: Bytes,
}

impl ImageSummary {
    pub(crate) fn new(
        root: ImageRoot,
        ram: Bytes,
        runs: impl Iterator<Item = Run>,
        stored: Bytes,
        file_len: Bytes,
    ) -> Self {
        let mut pages = KindCounts::default();
        let mut by_class: BTreeMap<_, _> = PageClass::ALL.map(|class| (class, KindCounts::default())).into();
        for run in runs {
            pages.add(run.kind, run.pages.end - run.pages.start);
            by_class.entry(run.class).or_default().add(run.kind, run.pages.end - run.pages.start);
        }
        Self { root, ram, pages, by_class, stored, file_len }
    }

    /// Size of the pages whose bytes are in frames, before compression; equal ones as often as they are there.
    #[must_use]
    pub fn data(&self) -> Bytes {
        Bytes::of_pages(u64::from(self.pages.data))
    }

    /// Size of all pages that are not zero after a resume.
    #[must_use]
    pub fn content(&self) -> Bytes {
        let KindCounts { data, base_disk, overlay_disk, .. } = self.pages;
        Bytes::of_pages([data, base_disk, overlay_disk].into_iter().map(u64::from).sum())
    }
}
