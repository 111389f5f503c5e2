//! Making a whole folder durable and visible in one step.
//!
//! Files are written into a *staging folder* next to their final place. [`Staging::publish`] makes them durable and renames
//! the folder. A process that dies before leaves a folder whose name starts with [`PREFIX`]; [`Staging::sweep`] removes it.
//! A live staging folder holds a lock on itself (`flock`), which the kernel drops with the process, so a sweep can tell.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

/// What names of staging folders start with. Published folders never do.
pub const PREFIX: &str = ".staging-";

/// Why a folder could not be staged or published. Nothing of it is at the final place.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name is no plain file name.
    #[error("{name:?} can not name a staging folder: it is 1 to 200 of A-Z, a-z, 0-9, '-', '_' and '.'")]
    BadName {
        /// As given.
        name: String,
    },
    /// Something is at the final place already, or in the way of the staging folder.
    #[error("{} exists already", path.display())]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// The final place is on another file system.
    #[error("{} is on another file system than its staging folder", path.display())]
    OtherFileSystem {
        /// The final place.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{} can not be {doing}", path.display())]
    Io {
        /// On what.
        path: PathBuf,
        /// What was tried, as a participle.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder that is not published yet. Dropped, it is removed with all its content.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// The folder itself, locked.
    folder: File,
    published: bool,
}

impl Staging {
    /// Makes the empty folder `PREFIX` + `name` in `parent`, accessible to this user only.
    ///
    /// # Errors
    /// [`PublishError`]; `Exists` also for a leftover of the same name (see [`sweep`](Self::sweep)).
    pub fn create(parent: &Path, name: &str) -> Result<Self, PublishError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > 200 || !name.bytes().all(plain) {
            return Err(PublishError::BadName { name: name.chars().take(80).collect() });
        }
        let path = parent.join(format!("{PREFIX}{name}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => PublishError::Exists { path: path.clone() },
            _ => failed(&path, "created", source),
        })?;
        let locked = File::open(&path).and_then(|folder| {
            flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
            Ok(folder)
        });
        match locked {
            Ok(folder) => Ok(Self { path, folder, published: false }),
            Err(source) => {
                // A folder without our lock is a leftover, which the next sweep removes.
                let _ = fs::remove_dir(&path);
                Err(failed(&path, "locked", source))
            }
        }
    }

    /// Where to put files.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything in the folder durable, renames it to `target`, and makes that durable. `target` must not exist and
    /// must be on the same file system. When this returns, `target` survives a crash of the machine; when it fails, or the
    /// process dies before, `target` does not exist.
    ///
    /// # Errors
    /// [`PublishError`]; the staging folder is then removed.
    pub fn publish(mut self, target: &Path) -> Result<(), PublishError> {
        sync_tree(&self.path)?;
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        rename_new(&self.path, target)?;
        let durable = sync(parent).and_then(|()| self.path.parent().map_or(Ok(()), sync));
        if let Err(error) = durable {
            // Back to where `drop` removes it: what is not durable must not look published.
            let _ = rename_new(target, &self.path);
            return Err(error);
        }
        self.published = true;
        // From here on the folder is an ordinary one.
        let _ = flock(&self.folder, FlockOperation::Unlock);
        Ok(())
    }

    /// Removes every staging folder in `parent` whose process is gone, and returns their names. Live ones are left alone.
    ///
    /// # Errors
    /// [`PublishError::Io`] for the first folder that can not be listed or removed.
    pub fn sweep(parent: &Path) -> Result<Vec<String>, PublishError> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(parent).map_err(|source| failed(parent, "listed", source))? {
            let entry = entry.map_err(|source| failed(parent, "listed", source))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !name.starts_with(PREFIX) || !is_folder {
                continue;
            }
            let path = entry.path();
            let folder = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|source| failed(&path, "opened", source))?,
            };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_dir_all(&path).map_err(|source| failed(&path, "removed", source))?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Staging folders in `parent` with something in them whose owner is gone, and what they take. Removes them if `remove`. Unlike
    /// [`sweep`](Self::sweep) it may run while others are made: one that nobody locked yet is empty.
    ///
    /// # Errors
    /// [`PublishError::Io`] for the first folder that can not be listed or removed.
    pub fn leftovers(parent: &Path, remove: bool) -> Result<Vec<(String, Bytes)>, PublishError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(parent).map_err(|source| failed(parent, "listed", source))? {
            let entry = entry.map_err(|source| failed(parent, "listed", source))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(files) = fs::read_dir(&path) else { continue };
            let files: Vec<_> = files.flatten().collect();
            if !name.starts_with(PREFIX) || files.is_empty() {
                continue;
            }
            let len = files.iter().map(|file| file.metadata().map_or(0, |meta| meta.blocks() * 512)).sum();
            let Ok(folder) = File::open(&path) else { continue };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                if remove {
                    fs::remove_dir_all(&path).map_err(|source| failed(&path, "removed", source))?;
                }
                found.push((name, Bytes(len)));
            }
        }
        Ok(found)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // A folder that can not be removed now is a leftover, which the next sweep removes or reports.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> PublishError {
    PublishError::Io { path: path.to_owned(), doing, source }
}

/// Makes a file's content, or a folder's list of names, durable.
pub(crate) fn sync(path: &Path) -> Result<(), PublishError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| failed(path, "made durable", source))
}

/// Files before the folders that name them.
fn sync_tree(folder: &Path) -> Result<(), PublishError> {
    for entry in fs::read_dir(folder).map_err(|source| failed(folder, "listed", source))? {
        let entry = entry.map_err(|source| failed(folder, "listed", source))?;
        let kind = entry.file_type().map_err(|source| failed(&entry.path(), "examined", source))?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync(&entry.path())?;
        }
    }
    sync(folder)
}

fn rename_new(from: &Path, to: &Path) -> Result<(), PublishError> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|error| match io::Error::from(error) {
        e if e.kind() == io::ErrorKind::AlreadyExists => PublishError::Exists { path: to.to_owned() },
        e if e.kind() == io::ErrorKind::CrossesDevices => PublishError::OtherFileSystem { path: to.to_owned() },
        source => failed(to, "published", source),
    })
}
