//! Opening an image and reading pages out of it.

mod frames;
mod materialise;
mod open;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, RamLayout};

use self::frames::FrameReader;
use super::format::Index;
use crate::digest::ImageRoot;
use crate::error::{MaterialiseError, ReadError};
use crate::page_kind::{PageKind, Run};
use crate::progress::Progress;
use crate::summary::ImageSummary;

/// An open image whose index is intact. Frames are checked each time that they are read.
///
/// The file must not change while it is open; if it does, reads fail, and never give changed bytes.
pub struct ImageReader {
    path: PathBuf,
    file: File,
    index: Index,
    summary: ImageSummary,
    /// The frame that was read last: neighbouring pages are asked for one after the other.
    last: Mutex<LastFrame>,
}

#[derive(Default)]
struct LastFrame {
    frame: Option<usize>,
    raw: Vec<u8>,
}

impl ImageReader {
    /// Opens an image and checks everything but the frames: header, footer, root hash, page map and frame table.
    /// With `expect_root`, also that it is the image that was meant.
    ///
    /// # Errors
    /// [`ReadError`], naming `path` and what is wrong.
    pub fn open(path: &Path, expect_root: Option<&ImageRoot>) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::from_file(file, path, expect_root)
    }

    /// Like [`open`](Self::open) for a file that is open already; `path` only serves in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File, path: &Path, expect_root: Option<&ImageRoot>) -> Result<Self, ReadError> {
        let open::Opened { index, root, file_len } = open::open(&file, path)?;
        if let Some(expected) = expect_root.filter(|expected| **expected != root) {
            return Err(ReadError::OtherImage { path: path.to_owned(), expected: *expected, found: root });
        }
        let summary = index.summary(root, file_len);
        Ok(Self { path: path.to_owned(), file, index, summary, last: Mutex::default() })
    }

    /// Where guest RAM lies.
    #[must_use]
    pub fn layout(&self) -> &RamLayout {
        self.index.layout()
    }

    /// What the image holds, in figures.
    #[must_use]
    pub fn summary(&self) -> &ImageSummary {
        &self.summary
    }

    /// The page map: runs from page 0 to the end of RAM without gaps.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.index.runs().map(|(pages, run)| Run { pages, kind: run.kind, class: run.class })
    }

    /// Reads one page; pages that are left out read as zero. Decodes the page's whole frame unless it was the last one
    /// read. On error `buf` is unchanged.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such page, or its frame can not be read or fails its check.
    pub fn read_page(&self, page: PageIndex, buf: &mut [u8; PAGE_SIZE]) -> Result<(), ReadError> {
        let pages = self.layout().pages();
        let no_page = || ReadError::NoSuchPage { path: self.path.clone(), page: page.0, pages };
        let run = self.index.run_of(page).ok_or_else(no_page)?;
        if run.kind != PageKind::Data {
            buf.fill(0);
            return Ok(());
        }
        let ordinal = run.data_before + (page.0 - run.start);
        let (number, frame) = self.index.frame_of(ordinal).ok_or_else(no_page)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.frame != Some(number) {
            last.frame = None;
            FrameReader::new(self)?.read(number, frame, &mut last.raw)?;
            last.frame = Some(number);
        }
        let (raw, _) = last.raw.as_chunks::<PAGE_SIZE>();
        *buf = *raw.get((ordinal - frame.data_before) as usize).ok_or_else(no_page)?;
        Ok(())
    }

    /// Reads and checks every frame.
    ///
    /// # Errors
    /// [`ReadError`] for the first frame that can not be read or fails its check, or `Cancelled`.
    pub fn verify(&self, progress: &dyn Progress) -> Result<(), ReadError> {
        let mut reader = FrameReader::new(self)?;
        let (mut raw, mut done) = (Vec::new(), 0);
        for (number, frame) in self.index.frames().iter().enumerate() {
            if progress.cancelled() {
                return Err(ReadError::Cancelled { path: self.path.clone() });
            }
            reader.read(number, frame, &mut raw)?;
            done += u64::from(frame.coded.stored_len);
            progress.advance(Bytes(done), self.summary.stored);
        }
        Ok(())
    }

    /// Writes RAM as a sparse file: data pages only, holes elsewhere, so that its length is the RAM's. `out` must be an
    /// empty file. Every frame is checked before a byte of it is written. `threads` (1 to 64) decode and write.
    /// Nothing is made durable. On error `out` is emptied, so that nothing half-filled can pass for RAM.
    ///
    /// # Errors
    /// [`MaterialiseError`]; on the first frame that fails, everything stops.
    pub fn materialise(&self, out: &File, threads: usize, progress: &dyn Progress) -> Result<(), MaterialiseError> {
        materialise::materialise(self, out, threads, progress)
    }
}
