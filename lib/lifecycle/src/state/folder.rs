//! Opening the state folder, and the paths in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::{SandboxId, SnapshotId, TemplateName};

/// Version of the state folder's format that this code reads and writes.
const VERSION: u32 = 1;

/// Why a state folder cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another daemon works on it.
    #[error("another dormouse daemon works on {}: stop it, or use another state folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by a later version, or is something else altogether.
    #[error("{} is no state folder of version {VERSION} (its VERSION file says {found:?}): {hint}", path.display())]
    Version {
        /// The folder.
        path: PathBuf,
        /// What its VERSION file says.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// The remote store will not work as it is described.
    #[error("{0}")]
    Remote(dormouse_store::remote::RemoteError),
    /// The folder cannot be read or written.
    #[error("state folder {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The state folder, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct StateFolder {
    root: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Opens or creates the folder, takes its lock, and empties what a former daemon left half-done.
    pub(crate) fn open(root: &Path) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(at(root))?;
        let root = fs::canonicalize(root).map_err(at(root))?;
        let lock = root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(at(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: root }),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: lock, source }),
        }
        check_version(&root)?;
        restrict_to_owner(&root).map_err(at(&root))?;
        let folder = Self { root, _lock: file };
        for scratch in [folder.cache(), folder.staging()] {
            match fs::remove_dir_all(&scratch) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&scratch)(e)),
                _ => {}
            }
        }
        for dir in [
            folder.cache(),
            folder.staging(),
            folder.artifacts(),
            folder.templates(),
            folder.snapshots(),
            folder.kept(),
            folder.disk_indexes(),
            folder.sandboxes(),
            folder.runs(),
        ] {
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        Ok(folder)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    pub(crate) fn template(&self, name: &TemplateName) -> PathBuf {
        self.templates().join(format!("{name}.json"))
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots().join(id.as_str())
    }

    pub(crate) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// What is known about remotes.
    pub(crate) fn uploaded(&self) -> PathBuf {
        self.root.join("uploaded")
    }

    pub(crate) fn disk_indexes(&self) -> PathBuf {
        self.root.join("disk-indexes")
    }

    pub(crate) fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    pub(crate) fn kept_record(&self, id: &SnapshotId) -> PathBuf {
        self.kept().join(format!("{id}.json"))
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub(crate) fn sandbox(&self, id: &SandboxId) -> PathBuf {
        self.sandboxes().join(format!("{id}.json"))
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn run(&self, id: &SandboxId) -> PathBuf {
        self.runs().join(id.as_str())
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
}

/// Records hold tokens, and snapshots hold guest memory: nobody else may look.
fn restrict_to_owner(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))
}

fn check_version(root: &Path) -> Result<(), OpenError> {
    let path = root.join("VERSION");
    let wanted = format!("dormouse-state {VERSION}\n");
    match fs::read_to_string(&path) {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => {
            let found: String = found.trim().chars().take(80).collect();
            let hint = if found.starts_with("dormouse-state ") {
                "use the dormouse that wrote it, or upgrade"
            } else {
                "choose another folder"
            };
            Err(OpenError::Version { path: root.to_owned(), found, hint })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            refuse_foreign(root)?;
            super::durable::write_bytes(&path, wanted.as_bytes()).map_err(|source| OpenError::Io { path, source })
        }
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// A folder without a VERSION file is new only if nothing is in it: some of what is named as in a state folder is
/// emptied at start, and must not be somebody's `cache`.
fn refuse_foreign(root: &Path) -> Result<(), OpenError> {
    let entries = fs::read_dir(root).map_err(|source| OpenError::Io { path: root.to_owned(), source })?;
    let ours = ["lock", "VERSION.half"];
    if entries.flatten().all(|entry| ours.iter().any(|name| entry.file_name() == *name)) {
        return Ok(());
    }
    let hint = "it holds other files: choose an empty folder, or one that does not exist yet";
    Err(OpenError::Version { path: root.to_owned(), found: String::new(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_same_folder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateFolder::open(dir.path()).unwrap();
        assert!(matches!(StateFolder::open(dir.path()), Err(OpenError::Locked { .. })));
        drop(first);
        assert!(StateFolder::open(dir.path()).is_ok());
    }

    #[test]
    fn a_folder_of_a_later_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "dormouse-state 2\n").unwrap();
        let error = StateFolder::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("upgrade"), "{error}");
        assert!(!dir.path().join("snapshots").exists());
    }

    #[test]
    fn a_folder_with_somebody_elses_files_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        fs::write(dir.path().join("cache/precious"), "x").unwrap();
        assert!(matches!(StateFolder::open(dir.path()), Err(OpenError::Version { .. })));
        assert!(dir.path().join("cache/precious").exists());
    }

    #[test]
    fn what_was_half_written_is_gone_after_opening() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateFolder::open(dir.path()).unwrap());
        fs::write(dir.path().join("staging/half"), "x").unwrap();
        fs::write(dir.path().join("cache/old.ram"), "x").unwrap();
        let folder = StateFolder::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(folder.staging()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.cache()).unwrap().count(), 0);
    }
}
