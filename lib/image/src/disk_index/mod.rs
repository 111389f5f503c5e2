//! Where on a disk a page's bytes may be found.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::WriteError;
use crate::progress::Progress;

/// The largest disk that can be indexed: its blocks are numbered in 32 bits.
pub(crate) const MAX_DISK_LEN: u64 = 1 << 44;

/// For every 4 KiB block of a disk that is not zero: the XXH3-128 of its bytes, and the first block that has it.
///
/// A filter, not a proof: whoever finds a block must compare the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskIndex {}

/// Why a disk index can not be read. It can be made again from the disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskIndexError {
    /// The file can not be read.
    #[error("disk index {} can not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskIndex {
    /// Reads the allocated parts of `disk` with so many threads.
    ///
    /// # Errors
    /// [`WriteError`]: the disk can not be read or is too large, or the caller cancelled.
    pub fn build(_disk: &File, _threads: usize, _progress: &dyn Progress) -> Result<Self, WriteError> {
        Ok(Self {})
    }

    /// Writes the index into `out`, which must be an empty file, and returns its identity.
    ///
    /// # Errors
    /// [`WriteError`]; `out` then holds rubbish that no reader accepts.
    pub fn write(&self, _out: &File) -> Result<Digest, WriteError> {
        Ok(self.digest())
    }

    /// Reads an index; with `expect`, only the one that has this identity.
    ///
    /// # Errors
    /// [`DiskIndexError`], naming `path` and what is wrong.
    pub fn read(_path: &Path, _expect: Option<&Digest>) -> Result<Self, DiskIndexError> {
        Ok(Self {})
    }

    /// Identity of the index and so of the disk's content, as far as equal pages go.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&[])
    }
}
