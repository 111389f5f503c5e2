//! Where pages may be found on the base disks.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_image::{DiskIndex, DiskIndexError};

use crate::error::with_causes;

/// Indexes that are held in memory: about 5 MiB for each GiB of a disk.
const HELD: usize = 4;

/// The indexes of base disks, each made once and kept as a file. Without one pages that are on the disk are stored again,
/// which costs room and nothing else; so what goes wrong here is logged, and fails no pause.
#[derive(Debug)]
pub(crate) struct BaseIndexes {
    dir: PathBuf,
    threads: usize,
    /// Longest unused last.
    held: Mutex<VecDeque<(PathBuf, Arc<DiskIndex>)>>,
}

impl BaseIndexes {
    pub(crate) fn new(dir: PathBuf, threads: usize) -> Self {
        Self { dir, threads, held: Mutex::default() }
    }

    /// The index of the disk `artifact` (its path below the artifacts), which lies at `disk`. Blocks for as long as it takes
    /// to read the disk if it has none yet.
    pub(crate) fn of(&self, artifact: &Path, disk: &Path) -> Option<Arc<DiskIndex>> {
        // Held while one is made: whoever wants the same one meanwhile gets it from memory.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().position(|(name, _)| name == artifact).and_then(|at| held.remove(at));
        let index = match found {
            Some((_, index)) => index,
            None => Arc::new(self.read_or_make(artifact, disk)?),
        };
        held.push_front((artifact.to_owned(), Arc::clone(&index)));
        held.truncate(HELD);
        Some(index)
    }

    fn read_or_make(&self, artifact: &Path, disk: &Path) -> Option<DiskIndex> {
        let path = self.dir.join(file_name(artifact));
        let len = fs::metadata(disk).map_or(0, |meta| meta.len());
        match DiskIndex::read(&path, None) {
            Ok(index) if index.disk_len() == len => return Some(index),
            Ok(_) => {
                tracing::warn!(index = %path.display(), "the index of a base disk is that of another one: making it anew")
            }
            Err(DiskIndexError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(error = with_causes(&error), "the index of a base disk is made anew"),
        }
        let made = File::open(disk)
            .map_err(|e| e.to_string())
            .and_then(|file| DiskIndex::build(&file, self.threads, &()).map_err(|e| with_causes(&e)));
        match made {
            Ok(index) => {
                if let Err(error) = keep(&index, &path) {
                    tracing::warn!(index = %path.display(), error, "the index of a base disk could not be kept");
                }
                Some(index)
            }
            Err(error) => {
                tracing::warn!(disk = %disk.display(), error, "a base disk has no index: what is on it is stored again");
                None
            }
        }
    }
}

/// Where the index of the disk `artifact` is kept below `dir`.
pub(crate) fn file_in(dir: &Path, artifact: &Path) -> PathBuf {
    dir.join(file_name(artifact))
}

/// One file name for a path below the artifacts.
fn file_name(artifact: &Path) -> String {
    format!("{}.index", blake3::hash(artifact.as_os_str().as_encoded_bytes()).to_hex())
}

fn keep(index: &DiskIndex, path: &Path) -> Result<(), String> {
    let half = path.with_extension("half");
    let _ = fs::remove_file(&half);
    let file = File::options().read(true).write(true).create_new(true).open(&half).map_err(|e| e.to_string())?;
    let written = index
        .write(&file)
        .map_err(|e| with_causes(&e))
        .and_then(|_| file.sync_all().and_then(|()| fs::rename(&half, path)).map_err(|e| e.to_string()));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn disk(dir: &Path) -> PathBuf {
        let path = dir.join("base.ext4");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[7; 8192], 4096).unwrap();
        path
    }

    #[test]
    fn an_index_is_made_once_and_a_damaged_one_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        let index = |disk: &Path| BaseIndexes::new(dir.path().to_owned(), 1).of(Path::new("a/base.ext4"), disk);
        let made = index(&disk).unwrap();
        assert_eq!(made.len(), 1, "two equal blocks");
        let kept = dir.path().join(file_name(Path::new("a/base.ext4")));
        fs::remove_file(&disk).unwrap();
        assert!(index(&disk).is_none(), "the one that is kept is of a disk of another length");

        let disk = self::disk(dir.path());
        let mut bytes = fs::read(&kept).unwrap();
        bytes[20] ^= 1;
        fs::write(&kept, &bytes).unwrap();
        assert_eq!(index(&disk), Some(made));
        assert_ne!(fs::read(&kept).unwrap(), bytes, "mended");
    }

    #[test]
    fn only_so_many_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        let indexes = BaseIndexes::new(dir.path().to_owned(), 1);
        for n in 0..HELD + 3 {
            indexes.of(Path::new(&format!("{n}")), &disk).unwrap();
        }
        assert_eq!(indexes.held.lock().unwrap().len(), HELD);
    }
}
