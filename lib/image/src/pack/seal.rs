//! A pack that comes straight from the writer.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::{OpenPack, PackRef};
use crate::error::{PackDamage, ReadError};

/// Says that the writer in this process wrote a pack into a file, and hashed every frame before it did. Whoever takes that
/// very file in, and knows that nobody else could write to it, need not read the frames again. Made by the writer alone; a pack
/// from anywhere else is read by [`check_pack`](crate::check_pack).
#[derive(Debug)]
pub struct SealedPack {
    named: PackRef,
    /// Kept open, so that no other file can get its number.
    file: File,
}

impl SealedPack {
    /// To be called when all of the pack is written.
    pub(super) fn new(named: PackRef, file: &File) -> io::Result<Self> {
        Ok(Self { named, file: file.try_clone()? })
    }

    /// What to name it by.
    #[must_use]
    pub fn named(&self) -> PackRef {
        self.named
    }

    /// Checks that `file` is the very file that was written, and that its length, header, frame table and id are those of the pack.
    /// Frames are not read.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn check(&self, file: &File) -> Result<(), ReadError> {
        let io = |source| ReadError::PackIo { pack: self.named.id, source };
        let place = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).map_err(io);
        if place(file)? != place(&self.file)? {
            return Err(ReadError::PackDamaged { pack: self.named.id, damage: PackDamage::Id });
        }
        OpenPack::open(file.try_clone().map_err(io)?, &self.named).map(drop)
    }
}
