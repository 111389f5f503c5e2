//! A pause: what every page of RAM is, and the pages that are nowhere yet, compressed into a pack.

mod account;
mod chunk;
mod draft;
mod duplicates;
mod place;
mod shared;
mod store;

use std::fs::File;

use dormouse_guest_mem::{Bytes, PageClass, PageIndex, PageSet, RamLayout, RamSource};
use serde::{Deserialize, Serialize};

use self::draft::ChunkDraft;
use self::duplicates::Duplicate;
pub(crate) use self::place::rank;
pub(crate) use self::store::{PackTable, sorted, write_index};
use crate::codec::Codec;
use crate::digest::{ImageRoot, RamDigest};
use crate::disk::DiskContent;
use crate::error::WriteError;
use crate::image::Image;
use crate::image::map::{ClassRun, PackEntry};
use crate::pack::{PackRef, SealedPack};
use crate::progress::Progress;
use crate::summary::ImageSummary;

/// A paused guest, and everything that its RAM may be equal to.
pub struct Capture<'a> {
    /// The RAM. Must not change until the image is stored; if it does, the image fails [`Image::verify`].
    pub ram: &'a dyn RamSource,
    /// Where it lies in the guest.
    pub layout: &'a RamLayout,
    /// Pages that the guest does not use. They are not read, and read as zero from the image. `None` when nothing is
    /// known. A page that is wrongly in this set is lost.
    pub free: Option<&'a PageSet>,
    /// The guest's use of a page: decides where its bytes are placed, never what they are.
    pub class_of: &'a (dyn Fn(PageIndex) -> PageClass + Sync),
    /// The disks that pages are looked up in, at most one for each slot.
    pub disks: &'a [DiskContent<'a>],
    /// What the VM was started from.
    pub parent: Option<Parent<'a>>,
}

/// The image that a VM was started from.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    /// Must be of the same layout, and its base disk the one of this capture. One of version 1 is not used.
    pub image: &'a Image,
    /// Pages that the VM may have changed since: a page that is missing here though it was changed is lost.
    pub written: &'a PageSet,
    /// The RAM that the VM was started with, to see which written pages have their old content.
    pub ram: &'a dyn RamSource,
}

/// Pages counted by what was found out about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCounts {
    /// Not used by the guest.
    pub free: u32,
    /// All zero.
    pub zero: u32,
    /// Where the parent has them: in its packs, or on the base disk.
    pub parent: u32,
    /// Newly found on the template's disk.
    pub base_disk: u32,
    /// Found on the sandbox's own disk.
    pub overlay_disk: u32,
    /// Equal to an earlier page of this image.
    pub duplicate: u32,
    /// Nowhere yet: these are compressed.
    pub data: u32,
}

impl PageCounts {
    fn add(&mut self, other: &Self) {
        self.free += other.free;
        self.zero += other.zero;
        self.parent += other.parent;
        self.base_disk += other.base_disk;
        self.overlay_disk += other.overlay_disk;
        self.duplicate += other.duplicate;
        self.data += other.data;
    }
}

/// What every page of a paused RAM is. Made by [`account`]; holds nothing of the capture, and about 1 % of the size of RAM
/// at most.
pub struct Accounting {
    layout: RamLayout,
    chunks: Vec<ChunkDraft>,
    classes: Vec<ClassRun>,
    /// Ascending by page.
    duplicates: Vec<Duplicate>,
    data: PageSet,
    /// The packs that pages of the parent are in.
    parent_packs: Vec<PackEntry>,
    counts: PageCounts,
    ram_digest: RamDigest,
}

/// How to store. Within one version of the compression library everything but `threads` decides the bytes of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Threads that read and compress, 1 to 64.
    pub threads: usize,
    /// Compression.
    pub codec: Codec,
    /// zstd level.
    pub level: i32,
    /// Pages per frame, 1 to [`crate::MAX_FRAME_PAGES`]. A reader decodes a whole frame to get at one page.
    pub frame_pages: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { threads: 2, codec: Codec::Zstd, level: 1, frame_pages: 16 }
    }
}

/// A stored image.
#[derive(Debug)]
pub struct Stored {
    /// The pack that was written, `None` when there was nothing for it: the pack file is then still empty.
    pub pack: Option<SealedPack>,
    /// All packs that the image names, the new one included: what the manifest lists.
    pub packs: Vec<PackRef>,
    /// Identity of the image.
    pub root: ImageRoot,
    /// Size of the index file.
    pub index_len: Bytes,
    /// Identity of the RAM.
    pub ram_digest: RamDigest,
    /// The image in figures.
    pub summary: ImageSummary,
}

/// Decides what every page is. Reads RAM once, in blocks; free pages, pages outside of [`RamSource::populated`] and pages
/// that the VM did not write since its parent (unless others in the same 2 MiB changed) not at all.
///
/// # Errors
/// [`WriteError`]
pub fn account(capture: &Capture<'_>, threads: usize, progress: &dyn Progress) -> Result<Accounting, WriteError> {
    account::account(capture, threads, progress)
}

impl Accounting {
    /// What was found, in figures.
    #[must_use]
    pub fn counts(&self) -> PageCounts {
        self.counts
    }

    /// Identity of the RAM.
    #[must_use]
    pub fn ram_digest(&self) -> RamDigest {
        self.ram_digest
    }

    /// The pages that [`store`](Self::store) is going to read. A caller that wants the guest to go on meanwhile copies
    /// these, and stores from the copy.
    #[must_use]
    pub fn data_pages(&self) -> &PageSet {
        &self.data
    }

    /// Writes the pages that are nowhere yet into `pack` and the index into `index`, both empty files. Nothing is made
    /// durable. The pack belongs under the name of its id before the index is published.
    ///
    /// `ram` is the RAM that was accounted, or a copy of its [`data_pages`](Self::data_pages): nothing else is read.
    ///
    /// # Errors
    /// [`WriteError`]; both files then hold rubbish that no reader accepts.
    pub fn store(
        &self,
        ram: &dyn RamSource,
        pack: &File,
        index: &File,
        options: StoreOptions,
        progress: &dyn Progress,
    ) -> Result<Stored, WriteError> {
        store::store(self, ram, (pack, index), &options, progress)
    }

    /// Number of runs that the page map may have at most.
    fn run_count(&self) -> usize {
        let new = (self.counts.data + self.counts.duplicate) as usize;
        self.classes.len()
            + new
            + self.chunks.iter().map(|chunk| chunk.runs.len() + chunk.disk_hashes.len()).sum::<usize>()
    }
}
