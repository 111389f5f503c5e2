//! Where the bytes of RAM went.

use std::collections::BTreeMap;

use dormouse_guest_mem::{Bytes, PageClass};
use serde::{Deserialize, Serialize};

use crate::digest::ImageRoot;
use crate::format::Index;
use crate::page_kind::PageKind;

/// Pages counted by how the image holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// Pages left out because the guest did not use them.
    pub free: u32,
    /// Pages left out because all their bytes were zero.
    pub zero: u32,
    /// Pages stored in frames.
    pub data: u32,
}

impl KindCounts {
    /// All pages.
    #[must_use]
    pub fn pages_total(&self) -> u32 {
        self.free + self.zero + self.data
    }

    fn add(&mut self, kind: PageKind, pages: u32) {
        let count = match kind {
            PageKind::Free => &mut self.free,
            PageKind::Zero => &mut self.zero,
            PageKind::Data => &mut self.data,
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
    /// Number of frames.
    pub frames: u32,
    /// Bytes of all frames as stored, after compression.
    pub stored_frames: Bytes,
    /// Size of the image file: frames, index, header and footer.
    pub file_len: Bytes,
}

impl ImageSummary {
    pub(crate) fn new(index: &Index, root: ImageRoot, file_len: u64) -> Self {
        let mut pages = KindCounts::default();
        let mut by_class: BTreeMap<_, _> = PageClass::ALL.map(|class| (class, KindCounts::default())).into();
        for (range, run) in index.runs() {
            pages.add(run.kind, range.end - range.start);
            by_class.entry(run.class).or_default().add(run.kind, range.end - range.start);
        }
        Self {
            root,
            ram: index.layout().len(),
            pages,
            by_class,
            frames: u32::try_from(index.frames().len()).unwrap_or(u32::MAX),
            stored_frames: Bytes(index.frames().iter().map(|frame| u64::from(frame.stored_len)).sum()),
            file_len: Bytes(file_len),
        }
    }

    /// Size of the pages that are stored, before compression.
    #[must_use]
    pub fn data(&self) -> Bytes {
        Bytes::of_pages(u64::from(self.pages.data))
    }
}
