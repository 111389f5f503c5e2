//! The RAM of a paused VM: all of it, what of it the VM wrote, and what it was before.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamSource};

use crate::extents;

/// RAM to be read while its VM stays paused.
pub trait PausedRam: RamSource + Send {
    /// What a restored VM was started with and what it has written since. `None` for a VM that was booted.
    fn restored(&self) -> Option<Restored<'_>>;

    /// Fills `into` with these pages, one run after the other; its length must be theirs. Quicker than to read each run,
    /// where there are many.
    ///
    /// # Errors
    /// As [`read_at`](RamSource::read_at).
    fn copy_pages(&self, runs: &[Range<u32>], into: &mut [u8]) -> io::Result<()> {
        copy_run_by_run(self, runs, into)
    }
}

/// The RAM of a VM that may run, with the pages that it writes followed. While it runs, what is read is a mixture, and pages that it
/// wrote since the last [`written_since`](Self::written_since) may read as they were when it was restored.
///
/// Dropping it ends that, for which the VM may be held up by some 10 ms per GiB.
pub trait FollowedRam: PausedRam {
    /// The pages that the VM wrote since the last call, or since it is followed. They count as written from now on: of a VM that
    /// is paused, this is then [`PausedRam`] in every respect.
    ///
    /// What the VM writes at the same time is given now or the next time. Blocks for some 10 ms per GiB at most.
    ///
    /// # Errors
    /// What the system says. What was written is then not known any more.
    fn written_since(&mut self) -> io::Result<PageSet>;
}

/// How the RAM of a restored VM came about.
#[derive(Clone, Copy)]
pub struct Restored<'a> {
    /// Pages that the VM wrote since it was restored, also those in which it wrote what they held before. All others are
    /// as in the file.
    pub written: &'a PageSet,
    /// The RAM file that it was restored from.
    pub file: &'a RamFile,
}

/// A RAM file that does not change any more.
#[derive(Debug)]
pub struct RamFile {
    file: File,
    len: u64,
}

impl RamFile {
    /// Opens a RAM file. It stays readable when it is removed.
    ///
    /// # Errors
    /// What the system says; `InvalidData` for a file that does not consist of whole pages.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    pub(crate) fn of(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        if !len.is_multiple_of(PAGE_SIZE as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { file, len })
    }

    /// Another handle of the same file.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, len: self.len })
    }
}

impl RamSource for RamFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        extents::data(&self.file, self.len)
    }
}

/// See [`PausedRam::copy_pages`].
pub(crate) fn copy_run_by_run<R: RamSource + ?Sized>(
    ram: &R,
    runs: &[Range<u32>],
    mut into: &mut [u8],
) -> io::Result<()> {
    for run in runs {
        let len = run.len() * PAGE_SIZE;
        let (now, rest) = into.split_at_mut_checked(len).ok_or(io::ErrorKind::InvalidInput)?;
        ram.read_at(PageIndex(run.start).offset(), now)?;
        into = rest;
    }
    if into.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
