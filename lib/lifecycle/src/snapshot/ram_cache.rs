//! Unpacked RAM files that VMs map privately, one for all VMs started from the same memory image.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_image::{ImageRoot, MaterialiseError};

use super::{PackFolder, Stored};
use crate::{Error, Result};

/// RAM files by the root of the image that they were unpacked from.
///
/// A VM gets a hard link of its own, so dropping a file from the cache never takes it from a VM that runs on it.
#[derive(Debug)]
pub(crate) struct RamCache {
    dir: PathBuf,
    artifacts: PathBuf,
    packs: PackFolder,
    threads: usize,
    /// One lock for each image that is being unpacked: the second caller waits for the first one's file.
    unpacking: Mutex<HashMap<ImageRoot, Arc<tokio::sync::Mutex<()>>>>,
}

impl RamCache {
    /// RAM files go to `dir`.
    pub(crate) fn new(dir: PathBuf, artifacts: PathBuf, packs: PackFolder, threads: usize) -> Self {
        Self { dir, artifacts, packs, threads, unpacking: Mutex::default() }
    }

    /// Makes `link` a name of the RAM file of this snapshot, unpacking it first if needed. Every byte was checked.
    pub(crate) async fn link(self: &Arc<Self>, stored: &Stored, link: &Path) -> Result<()> {
        let root = stored.image_root();
        let lock = Arc::clone(self.locks().entry(root).or_default());
        let unpacked = {
            let _one_at_a_time = lock.lock().await;
            let (cache, stored, link) = (Arc::clone(self), stored.clone(), link.to_owned());
            crate::blocking(move || cache.link_blocking(&stored, &link)).await
        };
        let mut locks = self.locks();
        if locks.get(&root).is_some_and(|held| Arc::strong_count(held) <= 2) {
            locks.remove(&root);
        }
        unpacked
    }

    /// Whether an image is unpacked.
    pub(crate) fn has(&self, root: ImageRoot) -> bool {
        self.file(root).exists()
    }

    /// Forgets the RAM file of an image whose snapshot is removed.
    pub(crate) fn forget(&self, root: ImageRoot) {
        // It may never have been unpacked.
        let _ = fs::remove_file(self.file(root));
    }

    /// The image has another root from now on. Its RAM is the same.
    pub(crate) fn rename(&self, root: ImageRoot, now: ImageRoot) {
        // It may never have been unpacked.
        let _ = fs::rename(self.file(root), self.file(now));
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<ImageRoot, Arc<tokio::sync::Mutex<()>>>> {
        self.unpacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, root: ImageRoot) -> PathBuf {
        self.dir.join(format!("{root}.ram"))
    }

    fn link_blocking(&self, stored: &Stored, link: &Path) -> Result<()> {
        let file = self.file(stored.image_root());
        match fs::hard_link(&file, link) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(Error::io(format!("link {}", link.display()))),
        }
        let half = file.with_extension("half");
        let unpacked = self
            .unpack(stored, &half)
            .and_then(|()| fs::rename(&half, &file).map_err(Error::io(format!("rename {}", half.display()))));
        if unpacked.is_err() {
            let _ = fs::remove_file(&half);
        }
        unpacked?;
        let linked = fs::hard_link(&file, link).map_err(Error::io(format!("link {}", link.display())));
        if !stored.exists() {
            // Removed while it was unpacked: nobody will ask for this file again.
            self.forget(stored.image_root());
        }
        linked
    }

    fn unpack(&self, stored: &Stored, half: &Path) -> Result<()> {
        let image = stored.image()?;
        let disks = stored.disks(&self.artifacts)?;
        let out = File::options().read(true).write(true).create(true).truncate(true).open(half);
        let out = out.map_err(Error::io(format!("create {}", half.display())))?;
        let made = image.materialise(self.packs.packs(), &disks.list(), &out, self.threads, &());
        made.map(drop).map_err(|error| match error {
            MaterialiseError::Read(damage) => stored.damaged(&damage),
            MaterialiseError::NoSpace { needed, available } => Error::NoSpace { needed, available },
            other => Error::storage("unpack the memory image into", half, &other),
        })
    }
}
