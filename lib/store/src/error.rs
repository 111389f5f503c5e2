//! Why the store cannot do what it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;

use crate::PackId;
use crate::check::CheckError;

/// Why the store cannot do what it was asked for. Nothing half-written is visible then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The pack is not there.
    #[error("pack {id} is missing: snapshots that need it cannot be resumed")]
    Missing {
        /// The pack.
        id: PackId,
    },
    /// A local file is not the pack that its name says.
    #[error("pack {id} is damaged ({}): snapshots that need it cannot be resumed", path.display())]
    Damaged {
        /// The pack.
        id: PackId,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: CheckError,
    },
    /// The pack is pinned or referenced, and stays.
    #[error("pack {id} is in use and cannot be removed")]
    InUse {
        /// The pack.
        id: PackId,
    },
    /// The file system is full.
    #[error(
        "no room for {}: {needed} more are needed, {available} can be had; make room and try again", path.display()
    )]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
        /// Room that it needs beyond what it has already.
        needed: Bytes,
        /// Room that the file system has.
        available: Bytes,
    },
    /// Nobody has said yet which snapshots there are, so nothing is known to be unneeded.
    #[error("packs are not collected before all manifests have been read")]
    ReferencesUnknown,
    /// A file operation failed.
    #[error("{} can not be {doing}", path.display())]
    Io {
        /// On what.
        path: PathBuf,
        /// What was tried, as a participle.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}
