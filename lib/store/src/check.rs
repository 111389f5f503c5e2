//! What it takes for a file to be the pack of a name. The rest of the store knows nothing else about what is in a pack.

use std::fmt;
use std::fs::File;
use std::io;

use dormouse_image::{ReadError, check_pack};

use crate::PackId;

/// Tells whether a file holds every byte of the pack that it is said to be.
pub trait PackCheck: fmt::Debug + Send + Sync {
    /// Reads all of `file`, whatever its position is.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, id: &PackId, file: &File) -> Result<(), CheckError>;
}

/// Why a file cannot be taken for the pack that its name says.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is another pack, no pack, or a damaged one.
    #[error("{0}")]
    Damaged(Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be read, which says nothing about its content.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
}

/// The packs of `dormouse_image`: every frame is decoded and compared with its checksum.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImagePacks;

impl PackCheck for ImagePacks {
    fn check(&self, id: &PackId, file: &File) -> Result<(), CheckError> {
        let file = file.try_clone().map_err(CheckError::Unreadable)?;
        check_pack(file, id, &()).map(drop).map_err(CheckError::from)
    }
}

impl From<ReadError> for CheckError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::PackIo { source, .. } if source.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Unreadable(source)
            }
            ReadError::PackDamaged { damage, .. } => Self::Damaged(damage.into()),
            error => Self::Damaged(error.into()),
        }
    }
}
