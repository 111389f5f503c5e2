//! The folder in which a build works; whatever it left there when it was killed goes when the next one starts.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::error::AtPath;

const LOCK: &str = "lock";

/// An emptied scratch folder that no other build uses as long as this value lives. Emptied again on drop.
pub(crate) struct Scratch {
    root: PathBuf,
    lock: File,
}

impl Scratch {
    /// Takes the folder and removes what an earlier build left in it.
    pub(crate) fn take(root: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(root).at(root)?;
        let root = fs::canonicalize(root).at(root)?;
        let path = root.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BuildError::Busy { scratch: root }),
            Err(TryLockError::Error(error)) => return Err(error).at(&path),
        }
        empty(&root)?;
        Ok(Self { root, lock })
    }

    /// A new, empty folder that only its owner may enter, since unpacked files may be set-uid.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.root.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).at(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed, or reported, by the next build.
        let _ = empty(&self.root);
        // Closing alone would not do: a child that another thread forks right now has a copy of the descriptor until it
        // executes its program.
        let _ = self.lock.unlock();
    }
}

fn empty(root: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(root).at(root)? {
        let path = entry.at(root)?.path();
        if path.file_name().is_some_and(|name| name == LOCK) {
            continue;
        }
        if fs::symlink_metadata(&path).at(&path)?.is_dir() {
            fs::remove_dir_all(&path).at(&path)?;
        } else {
            fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_a_second_build_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("half")).unwrap();
        fs::write(dir.path().join("half/disk"), "x").unwrap();
        let scratch = Scratch::take(dir.path()).unwrap();
        assert!(!dir.path().join("half").exists());
        assert!(matches!(Scratch::take(dir.path()), Err(BuildError::Busy { .. })));
        drop(scratch);
        Scratch::take(dir.path()).unwrap();
    }
}
