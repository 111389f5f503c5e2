//! Where packs come from.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::PackId;

/// Gives the packs that an image names.
pub trait PackSource: Sync {
    /// The pack as a file to be read at any place, fetched first if need be. What it holds is checked by the reader.
    ///
    /// # Errors
    /// [`PackUnavailable`], naming what to do.
    fn open(&self, id: &PackId) -> Result<File, PackUnavailable>;
}

/// A pack can not be had.
#[derive(Debug, thiserror::Error)]
#[error("pack {pack} can not be had; snapshots that name it can not be resumed without it")]
pub struct PackUnavailable {
    /// Which one.
    pub pack: PackId,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

/// A pack as an image and a manifest name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRef {
    /// Which one.
    pub id: PackId,
    /// Length of the whole file.
    pub len: Bytes,
}

impl PackId {
    /// The name of the pack's file in a folder or a bucket.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{self}.pack")
    }
}

/// The packs in a folder, each under its [`PackId::file_name`].
#[derive(Clone, Debug)]
pub struct DirPacks {
    dir: PathBuf,
}

impl DirPacks {
    /// The packs in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where the pack is, or would be.
    #[must_use]
    pub fn path(&self, id: &PackId) -> PathBuf {
        self.dir.join(id.file_name())
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl PackSource for DirPacks {
    fn open(&self, id: &PackId) -> Result<File, PackUnavailable> {
        File::open(self.path(id)).map_err(|source| PackUnavailable { pack: *id, source: source.into() })
    }
}
