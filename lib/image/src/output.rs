//! The file that the image grows in, and how much room there is for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use dormouse_guest_mem::Bytes;

use crate::error::WriteError;

/// Why bytes could not be written.
#[derive(Debug)]
pub(crate) enum OutputFault {
    /// No room is left, or the user's quota is used up.
    Full,
    Io(io::Error),
}

impl From<io::Error> for OutputFault {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error) }
    }
}

/// Whether it says that no room is left, or that the user's quota is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the file system has left for this file, counting what the file takes. Room that can not be determined is none.
pub(crate) fn room(file: &File) -> Bytes {
    let free = rustix::fs::fstatvfs(file).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    let taken = file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512));
    Bytes(free.saturating_add(taken))
}

/// An empty file that is written from front to back.
pub(crate) struct Output<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> Output<'a> {
    pub(crate) fn new(file: &'a File) -> Result<Self, WriteError> {
        let len = file.metadata().map_err(|source| WriteError::Output { source })?.len();
        if len != 0 {
            return Err(WriteError::NotEmpty { len: Bytes(len) });
        }
        Ok(Self { file, position: 0 })
    }

    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), OutputFault> {
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The error for an image of at most `needed` bytes.
    pub(crate) fn no_space(&self, needed: u64) -> WriteError {
        WriteError::NoSpace { needed: Bytes(needed), available: room(self.file) }
    }
}
