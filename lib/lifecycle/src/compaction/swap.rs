//! Putting a rewritten memory image in the place of the one that a snapshot had.
//!
//! The new index gets a name of its own in the snapshot's folder; the manifest, which names it, is replaced by one rename. Before
//! that the snapshot is the old one, afterwards the new one, and both are whole: the old index and the old packs go only when
//! nobody reads by the old manifest any more.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dormouse_image::manifest::{FileName, Manifest, MemoryRef};
use dormouse_image::{ImageRoot, PackRef};

use crate::host::Shared;
use crate::snapshot::{PARENT_INDEX, Stored, list_dir};
use crate::steps::reached;
use crate::{Error, Result, SnapshotId};

/// Puts the image `made`, whose index is at `index`, in the place of that of `stored`. Whether that was done: it is not if the
/// snapshot was removed meanwhile.
pub(super) fn swap(
    shared: &Arc<Shared>,
    stored: &Stored,
    made: &dormouse_image::Stored,
    index: &Path,
    stop: &AtomicBool,
) -> Result<bool> {
    let failed = |e: std::io::Error| Error::storage("write", &stored.dir, &e);
    let root: String = made.root.to_string().chars().take(16).collect();
    let file = FileName::try_from(format!("memory-{root}.idx")).map_err(|e| failed(std::io::Error::other(e)))?;
    let memory =
        MemoryRef { file, len: made.index_len, root: made.root, ram: Some(made.ram_digest), packs: made.packs.clone() };
    let place = stored.dir.join(memory.file.as_str());
    {
        // Nobody removes the snapshot while its manifest is replaced: it would come to life again.
        let _swapping = shared.packs.swapping();
        let unchanged = Manifest::read(&stored.dir).is_ok_and(|now| now == stored.manifest);
        if !unchanged || stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        fs::rename(index, &place).map_err(failed)?;
        crate::state::sync_dir(&stored.dir).map_err(failed)?;
        reached("index in place");
        let both: Vec<_> = stored.packs().iter().chain(&memory.packs).copied().collect();
        shared.packs.snapshot_is_there(&stored.id, &both);
        // What a failure leaves is cleared up at the next start: it is not known which of the two manifests the disk has.
        let manifest = Manifest { memory: memory.clone(), ..stored.manifest.clone() };
        manifest.write_into(&stored.dir).map_err(|e| Error::storage("write the manifest in", &stored.dir, &e))?;
        reached("manifest replaced");
        // Before anybody can remove it: who removes it says so afterwards.
        shared.remote.snapshot_is_there(&Stored { manifest, ..stored.clone() });
    }
    let old = Old {
        shared: Arc::downgrade(shared),
        id: stored.id.clone(),
        dir: stored.dir.clone(),
        index: stored.memory_file(),
        root: stored.image_root(),
        new_index: place,
        new_root: made.root,
        packs: memory.packs,
    };
    shared.readers.afterwards(&stored.id, move || old.clear());
    Ok(true)
}

/// What a snapshot had before, and what it has now.
struct Old {
    shared: std::sync::Weak<Shared>,
    id: SnapshotId,
    dir: PathBuf,
    index: PathBuf,
    root: ImageRoot,
    new_index: PathBuf,
    new_root: ImageRoot,
    packs: Vec<PackRef>,
}

impl Old {
    /// Removes what nobody needs any more. What cannot be removed now is removed when the daemon starts again.
    fn clear(self) {
        let Some(shared) = self.shared.upgrade() else { return };
        {
            let _swapping = shared.packs.swapping();
            // It may have been removed meanwhile, and with it everything here.
            if !self.dir.join(dormouse_image::manifest::FILE_NAME).exists() {
                shared.ram_cache.forget(self.root);
                return;
            }
            self.give_to_vms(&shared);
            if let Err(error) = crate::state::remove_file(&self.index) {
                tracing::warn!(index = %self.index.display(), %error, "a former index could not be removed");
            }
            reached("old index removed");
            shared.ram_cache.rename(self.root, self.new_root);
            shared.packs.snapshot_is_there(&self.id, &self.packs);
        }
        shared.packs.collect();
        reached("old packs collected");
    }

    /// VMs that were started from the snapshot inherit from the new index too: their RAM is the same. So also where a sandbox is
    /// always resumed before its snapshot could be compacted, its chain of packs gets no longer.
    fn give_to_vms(&self, shared: &Shared) {
        let same = |a: &Path, b: &Path| {
            let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
            matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
        };
        for run in list_dir(&shared.folder.runs()).unwrap_or_default() {
            let parent = run.join(PARENT_INDEX);
            if !same(&parent, &self.index) {
                continue;
            }
            let half = run.join("parent.half");
            let _ = fs::remove_file(&half);
            let replaced = fs::hard_link(&self.new_index, &half).and_then(|()| fs::rename(&half, &parent));
            match replaced {
                Ok(()) => shared.packs.run_begins(&run, &self.packs),
                Err(error) => {
                    tracing::warn!(run = %run.display(), %error, "a VM keeps the index that it was started from")
                }
            }
            reached("parent replaced");
        }
    }
}
