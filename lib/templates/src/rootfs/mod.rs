//! The files of the base disk: fetched or copied, then made ready for a sandbox.

mod account;
mod debian;
mod dress;
mod import;
mod modules;
mod root_dir;

use std::path::{Path, PathBuf};

use crate::apt::{Apt, Source};
use crate::digest::{Key, KeyHasher};
use crate::scratch::Scratch;
use crate::store::Store;
use crate::tree_digest::hash_tree;
use crate::{BuildError, Progress, RootfsSource};
pub(crate) use modules::add_modules;

/// Changes when the way a root filesystem is made changes.
const VERSION: &str = "rootfs 1";

/// A source of files whose content is known by its key, though nothing may have been fetched yet.
pub(crate) enum Resolved<'a> {
    Debian { suite: String, packages: Vec<&'a str>, apt: Apt, sources: Vec<Source>, download: u64 },
    Directory(&'a Path),
    Tar(&'a Path),
}

/// Finds out what the source is made of.
pub(crate) fn resolve<'a>(
    source: &'a RootfsSource,
    store: &Store,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<(Resolved<'a>, Key), BuildError> {
    let mut hasher = KeyHasher::new(VERSION);
    let resolved = match source {
        RootfsSource::Debian { suite, packages } => {
            progress.step("root filesystem: asking apt for packages");
            debian::resolve(suite.as_deref(), packages, store, scratch, &mut hasher, progress)?
        }
        RootfsSource::Directory(path) => {
            progress.step("root filesystem: reading the directory");
            hasher.field(b"directory");
            hash_tree(path, &mut hasher, progress)?;
            Resolved::Directory(path)
        }
        RootfsSource::Tar(path) => {
            progress.step("root filesystem: reading the archive");
            hasher.field(b"tar");
            hasher.file(path, progress)?;
            Resolved::Tar(path)
        }
    };
    Ok((resolved, hasher.finish()))
}

/// Puts the files into a new folder of the scratch folder and makes them ready for a sandbox.
///
/// # Errors
/// Among others when this process is not root, since the files belong to several users.
pub(crate) fn stage(
    resolved: &Resolved<'_>,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<PathBuf, BuildError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BuildError::NeedsRoot);
    }
    let work = scratch.folder("rootfs")?;
    let root = work.join("root");
    match resolved {
        Resolved::Debian { suite, packages, apt, sources, download } => {
            progress.step("root filesystem: installing packages");
            progress.advance(0, Some(*download));
            debian::install(suite, packages, apt, &root, &work, progress)?;
            debian::tidy(&root, sources)?;
        }
        Resolved::Directory(path) => {
            progress.step("root filesystem: copying the directory");
            import::copy(path, &root, &work, progress)?;
        }
        Resolved::Tar(path) => {
            progress.step("root filesystem: unpacking the archive");
            import::unpack(path, &root, &work, progress)?;
        }
    }
    progress.step("root filesystem: adding the user and settings");
    dress::dress(&root)?;
    Ok(root)
}
