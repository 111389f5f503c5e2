//! The store of finished parts: `KIND/KEY/…`. A folder is there completely or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::digest::Key;
use crate::error::AtPath;

/// Finished parts, each in a folder named by its kind and key.
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn open(root: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(root).at(root)?;
        Ok(Self { root: fs::canonicalize(root).at(root)? })
    }

    /// A folder for what makes builds faster but is no part.
    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.root.join("cache").join(name)
    }

    /// The folder of a finished part, if there is one.
    pub(crate) fn find(&self, kind: &str, key: &Key) -> Option<PathBuf> {
        let path = self.place(kind, key);
        path.is_dir().then_some(path)
    }

    /// Moves a staged folder into the store: made durable first, then renamed, so that a crash at any point leaves the
    /// part complete or absent.
    pub(crate) fn publish(&self, staged: &Path, kind: &str, key: &Key) -> Result<PathBuf, BuildError> {
        let place = self.place(kind, key);
        let shelf = self.root.join(kind);
        fs::create_dir_all(&shelf).at(&shelf)?;
        sync_tree(staged)?;
        match fs::rename(staged, &place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return Err(BuildError::SeparateFilesystems { scratch: staged.to_owned(), store: self.root.clone() });
            }
            // Another build with another scratch folder was faster; its part is as good.
            Err(_) if place.is_dir() => {}
            Err(error) => return Err(error).at(&place),
        }
        sync(&shelf)?;
        sync(&self.root)?;
        Ok(place)
    }

    fn place(&self, kind: &str, key: &Key) -> PathBuf {
        self.root.join(kind).join(key.to_string())
    }
}

fn sync_tree(path: &Path) -> Result<(), BuildError> {
    if path.is_dir() {
        for entry in fs::read_dir(path).at(path)? {
            sync_tree(&entry.at(path)?.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> Result<(), BuildError> {
    File::open(path).and_then(|file| file.sync_all()).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::KeyHasher;

    #[test]
    fn a_part_is_found_only_after_it_was_published_and_the_first_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let key = KeyHasher::new("x").finish();
        for text in ["first", "second"] {
            assert_eq!(store.find("part", &key).is_some(), text == "second");
            let staged = dir.path().join("staged");
            fs::create_dir_all(&staged).unwrap();
            fs::write(staged.join("file"), text).unwrap();
            let place = store.publish(&staged, "part", &key).unwrap();
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "first");
        }
    }
}
