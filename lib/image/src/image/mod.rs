//! Opening an image of any version and reading it.

pub(crate) mod chunk;
mod columns;
pub(crate) mod format;
pub(crate) mod map;
mod materialise;
mod open;
mod reader;
pub(crate) mod sources;
mod varint;
mod verify;

use std::fs::File;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::RamLayout;

use self::map::PageMap;
pub use self::materialise::ReadCost;
pub(crate) use self::open::summary;
pub use self::reader::PageReader;
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
///
/// The files must not change while it is open; if they do, reads fail, and never give changed bytes.
pub struct Image(Version);

enum Version {
    One(Box<ImageReader>),
    Two(Box<IndexImage>),
}

/// An image of version 2.
pub(crate) struct IndexImage {
    pub(crate) path: PathBuf,
    pub(crate) map: PageMap,
    pub(crate) packs: Vec<PackRef>,
    pub(crate) summary: ImageSummary,
    pub(crate) ram_digest: RamDigest,
}

impl Image {
    /// Opens an image (version 1: the file of everything; version 2: its index) and checks all of the index.
    /// With `expect`, also that it is the image that was meant.
    ///
    /// # Errors
    /// [`ReadError`], naming `path` and what is wrong.
    pub fn open(path: &Path, expect: Option<&ImageRoot>) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::from_file(file, path, expect)
    }

    /// Like [`open`](Self::open) for a file that is open already; `path` only serves in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File, path: &Path, expect: Option<&ImageRoot>) -> Result<Self, ReadError> {
        open::open(file, path, expect).map(Self)
    }

    /// Version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        match &self.0 {
            Version::One(_) => 1,
            Version::Two(_) => 2,
        }
    }

    /// Where guest RAM lies.
    #[must_use]
    pub fn layout(&self) -> &RamLayout {
        match &self.0 {
            Version::One(old) => old.layout(),
            Version::Two(image) => &image.map.layout,
        }
    }

    /// What the image holds, in figures.
    #[must_use]
    pub fn summary(&self) -> &ImageSummary {
        match &self.0 {
            Version::One(old) => old.summary(),
            Version::Two(image) => &image.summary,
        }
    }

    /// The page map: runs from page 0 to the end of RAM without gaps.
    pub fn runs(&self) -> Box<dyn Iterator<Item = Run> + '_> {
        match &self.0 {
            Version::One(old) => Box::new(old.runs()),
            Version::Two(image) => Box::new(image.map.runs_by_class()),
        }
    }

    /// The packs that are needed to read the image.
    #[must_use]
    pub fn packs(&self) -> &[PackRef] {
        match &self.0 {
            Version::One(_) => &[],
            Version::Two(image) => &image.packs,
        }
    }

    /// Identity of the RAM; images of version 1 do not know it.
    #[must_use]
    pub fn ram_digest(&self) -> Option<RamDigest> {
        self.index().map(|image| image.ram_digest)
    }

    /// For reading single pages. Packs are opened when they are needed.
    pub fn pages<'a>(&'a self, packs: &'a dyn PackSource, disks: &'a [Disk<'a>]) -> PageReader<'a> {
        PageReader::new(self, packs, disks)
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
    ) -> Result<ReadCost, MaterialiseError> {
        match &self.0 {
            Version::One(old) => old.materialise(out, threads, progress).map(|()| ReadCost::default()),
            Version::Two(image) => materialise::materialise(image, packs, disks, out, threads, progress),
        }
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
        match &self.0 {
            Version::One(old) => old.verify(progress),
            Version::Two(image) => verify::verify(image, packs, disks, threads, None, progress),
        }
    }

    /// As [`verify`](Self::verify), but tells of everything that is wrong, not only of the first part. The same part may be told of
    /// several times, by several threads. One of version 1 ends with its first fault all the same.
    ///
    /// # Errors
    /// `Cancelled`, or why the check itself could not go on; never a fault that was told.
    pub fn find_faults(
        &self,
        packs: &dyn PackSource,
        disks: &[Disk<'_>],
        threads: usize,
        tell: &(dyn Fn(ReadError) + Sync),
        progress: &dyn Progress,
    ) -> Result<(), ReadError> {
        match &self.0 {
            Version::One(old) => match old.verify(progress) {
                Err(cancelled @ ReadError::Cancelled { .. }) => Err(cancelled),
                Err(fault) => {
                    tell(fault);
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
            Version::Two(image) => verify::verify(image, packs, disks, threads, Some(tell), progress),
        }
    }

    /// The image as one of version 2, if it is one.
    pub(crate) fn index(&self) -> Option<&IndexImage> {
        match &self.0 {
            Version::One(_) => None,
            Version::Two(image) => Some(image),
        }
    }
}
