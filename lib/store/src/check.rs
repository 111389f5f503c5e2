//! What it takes for a file to be the pack of a name. The store knows nothing else about what is in a pack.

use std::fmt;
use std::fs::File;

use crate::PackId;

/// Tells whether a file holds every byte of the pack that it is said to be.
pub trait PackCheck: fmt::Debug + Send + Sync {
    /// Reads all of `file`, whatever its position is.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, id: &PackId, file: &File) -> Result<(), PackDamage>;
}

/// Why a file is not the pack that its name says.
#[derive(Debug, thiserror::Error)]
pub enum PackDamage {
    /// It is another pack, no pack, or a damaged one.
    #[error("{0}")]
    Content(Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be read, which says nothing about its content.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
}
