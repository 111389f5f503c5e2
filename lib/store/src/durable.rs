//! Folders whose list of names survives a crash.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::StoreError;

/// Makes the list of names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io(dir, "made durable"))
}

/// Makes sure that the folder `dir`, accessible to this user only, is in its existing parent, durably.
pub(crate) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        // Whoever made it may not have come to the next line.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(crate::room::failed(dir, "created", 4096, error));
        }
        _ => {}
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Removes `path`. Whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(path, "removed")(error)),
    }
}
