//! Directories and what is in them.

mod change;
mod entry;
mod list;
mod rpc;
mod watch_stream;

pub(crate) use entry::entry;
pub(crate) use rpc::FilesystemRpc;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why an operation was refused.
#[derive(Debug, Error)]
pub(crate) enum FilesystemError {
    #[error("path '{path}' does not exist", path = .0.display())]
    NotFound(PathBuf),
    #[error("directory '{path}' already exists", path = .0.display())]
    DirectoryExists(PathBuf),
    #[error("path '{path}' is not a directory", path = .0.display())]
    NotDirectory(PathBuf),
    #[error("the root directory cannot be removed or moved")]
    Root,
    #[error("more than {0} entries, list a smaller directory or depth")]
    TooMany(usize),
    #[error("'{path}': {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl FilesystemError {
    fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path.to_owned()),
            io::ErrorKind::NotADirectory => Self::NotDirectory(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
