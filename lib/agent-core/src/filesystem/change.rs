//! Making, moving and removing.

use std::io;
use std::path::Path;

use super::FilesystemError;
use crate::files::write::make_directories;
use crate::identity::User;

/// Makes `path` and its parents, owned by `user`. A directory that exists is an error of its own kind.
pub(super) fn make_dir(path: &Path, user: &User) -> Result<(), FilesystemError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(FilesystemError::DirectoryExists(path.to_owned())),
        Ok(_) => return Err(FilesystemError::NotDirectory(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FilesystemError::io(path, error)),
    }
    make_directories(path, (user.uid, user.gid)).map_err(|error| FilesystemError::io(path, error))
}

/// Renames, replacing a file at `destination`; its parents are made.
pub(super) fn move_entry(source: &Path, destination: &Path, user: &User) -> Result<(), FilesystemError> {
    if source.parent().is_none() || destination.parent().is_none() {
        return Err(FilesystemError::Root);
    }
    std::fs::symlink_metadata(source).map_err(|error| FilesystemError::io(source, error))?;
    if let Some(parent) = destination.parent() {
        make_directories(parent, (user.uid, user.gid)).map_err(|error| FilesystemError::io(parent, error))?;
    }
    std::fs::rename(source, destination).map_err(|error| FilesystemError::io(destination, error))
}

/// Removes an entry, a directory with all that is in it. A link goes, what it points to stays. Nothing there is fine.
pub(super) fn remove(path: &Path) -> Result<(), FilesystemError> {
    if path.parent().is_none() {
        return Err(FilesystemError::Root);
    }
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilesystemError::io(path, error)),
        _ => Ok(()),
    }
}
