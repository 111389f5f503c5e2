//! Why there is no usable manifest.

use std::io;
use std::path::PathBuf;

use dormouse_guest_mem::Bytes;

use super::{MAX_LEN, VERSION};
use crate::publish::PublishError;

/// Why a manifest, or a file that it names, can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file can not be read or written.
    #[error("manifest {} can not be read or written", path.display())]
    Io {
        /// The manifest, or the file that it names.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can not be made durable.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The file is larger than any manifest: it is not read into memory.
    #[error("manifest {} is larger than {}: it is no manifest", path.display(), Bytes(MAX_LEN))]
    TooLarge {
        /// The manifest.
        path: PathBuf,
    },
    /// The file is no manifest at all.
    #[error("{} is no dormouse manifest", path.display())]
    NotAManifest {
        /// The file.
        path: PathBuf,
    },
    /// The manifest is of a later version. Nothing else of it was looked at.
    #[error("manifest version {version} is newer than {VERSION}: upgrade dormouse ({})", path.display())]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The body was changed after it was written.
    #[error("manifest {} does not match its checksum; the snapshot can not be resumed, delete it or restore the file from a backup", path.display())]
    Checksum {
        /// The manifest.
        path: PathBuf,
    },
    /// The JSON breaks the rules of its version.
    #[error("manifest {} is damaged; the snapshot can not be resumed, delete it or restore the file from a backup", path.display())]
    Malformed {
        /// The manifest.
        path: PathBuf,
        /// Which rule, and where.
        source: serde_json::Error,
    },
    /// A file that the manifest names is shorter or longer than it should be.
    #[error("{} is damaged: {expected} bytes expected, {found} found; the snapshot can not be resumed, delete it or restore the file from a backup", path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Its length by the manifest, in bytes.
        expected: u64,
        /// Its length, in bytes.
        found: u64,
    },
}
