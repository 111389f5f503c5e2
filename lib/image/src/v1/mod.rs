//! Version 1 of the memory image: one file that holds everything. Read for ever; no longer what a pause writes.

pub(crate) mod format;
mod read;
mod write;

pub use read::ImageReader;
pub use write::{Omit, WriteOptions, write};
