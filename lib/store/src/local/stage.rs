//! A pack that is being written.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Packs;
use crate::{StoreError, durable, room};

/// A file for a pack that nobody sees yet. Dropped, it is removed; left by a crash, it is removed when the folder is opened.
#[derive(Debug)]
pub struct StagedPack {
    packs: Packs,
    number: u64,
    path: PathBuf,
    file: File,
    published: bool,
}

impl StagedPack {
    pub(super) fn create(packs: Packs, number: u64) -> Result<Self, StoreError> {
        let path = packs.part(number);
        let created = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match created {
            Ok(file) => Ok(Self { packs, number, path, file, published: false }),
            Err(error) => {
                packs.state().writing.remove(&number);
                Err(room::failed(&path, "created", 4096, error))
            }
        }
    }

    /// The file, to be written and read.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it lies meanwhile.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gets room for `len` bytes, so that writing them cannot fail for want of it (where the file system can promise that).
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub fn reserve(&self, len: u64) -> Result<(), StoreError> {
        room::reserve(&self.file, &self.path, len)
    }

    /// Moves the file to `target`, replacing what is there.
    pub(super) fn publish(mut self, target: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, target).map_err(|error| room::failed(target, "published", 4096, error))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for StagedPack {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed when the folder is opened again.
            let _ = durable::remove_file(&self.path);
        }
        self.packs.state().writing.remove(&self.number);
    }
}
