//! From a [`Recipe`] to the files that a template VM boots from: kernel, initramfs, read-only base disk, empty overlay
//! disk. Nothing is booted here.
//!
//! [`build`] makes each part once and keeps it in a store under the hash of everything that it was made from, so a
//! second build of the same recipe finds its parts instead of making them. What the parts contain, and how to bring
//! one's own root filesystem or kernel, is told in `docs/templates.md`.
#![forbid(unsafe_code)]

mod apt;
mod build;
mod command;
mod cpio;
mod digest;
mod error;
mod ext4;
mod initramfs;
mod kernel;
mod progress;
mod recipe;
mod rootfs;
mod scratch;
mod store;
mod tree_digest;

pub use build::{ArtifactId, Artifacts, build};
pub use error::BuildError;
pub use progress::{Progress, Silent};
pub use recipe::{KernelLine, KernelSource, Recipe, RootfsSource};
