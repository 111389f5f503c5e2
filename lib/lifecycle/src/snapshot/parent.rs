//! The image that a VM was started from, kept for as long as the VM lives: its next image inherits from it.

use std::fs;
use std::io;
use std::path::Path;

use dormouse_image::Image;
use dormouse_store::Pins;

use super::{PackFolder, Stored};
use crate::error::with_causes;
use crate::{Error, Result};

/// Name of the image's index in a VM's folder.
pub(crate) const PARENT_INDEX: &str = "parent.idx";

/// Notes in the folder of a VM what it is started from. The snapshot may then be removed: the index is a name of its own
/// for the same file, and the packs are needed for as long as the folder is there.
pub(super) fn remember(stored: &Stored, run: &Path, packs: &PackFolder) -> Result<()> {
    if stored.packs().is_empty() {
        // An image of version 1, or one that is nowhere but on disks: there is nothing that could be inherited from packs.
        return Ok(());
    }
    packs.run_begins(run, stored.packs());
    let index = run.join(PARENT_INDEX);
    fs::hard_link(stored.memory_file(), &index).map_err(Error::io(format!("link {}", index.display())))
}

/// What a VM was started from, its packs pinned.
pub(super) struct ParentImage {
    pub(super) image: Image,
    _packs: Pins,
}

impl ParentImage {
    /// Of the VM in the folder `run`. `None` if it was booted, or if the image cannot be read: then everything is stored anew.
    pub(super) fn of(run: &Path, packs: &PackFolder) -> Option<Self> {
        let index = run.join(PARENT_INDEX);
        if matches!(fs::symlink_metadata(&index), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        // Until the packs are pinned, nobody may put another index here and let these packs go.
        let _swapping = packs.swapping();
        match Image::open(&index, None) {
            Ok(image) => {
                let pins = packs.packs().pin(image.packs().iter().map(|pack| pack.id));
                Some(Self { image, _packs: pins })
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(run = %run.display(), error, "what a VM was started from cannot be read: all is stored anew");
                None
            }
        }
    }
}
