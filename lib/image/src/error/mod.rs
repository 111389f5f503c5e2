//! Why an image can not be written or read.

mod read;
mod write;

pub use read::{Damage, MaterialiseError, PackDamage, ReadError};
pub use write::WriteError;
