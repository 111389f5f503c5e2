//! Version 1 of the memory image: one file that holds everything. Read for ever, and never written.

pub(crate) mod format;
mod read;

pub use read::ImageReader;
