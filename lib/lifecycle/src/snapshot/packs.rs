//! Which packs snapshots and running VMs need, so that no other is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dormouse_image::PackRef;
use dormouse_store::{ImagePacks, PackId, Packs, Pins, SnapshotName, StoreError};

use super::needs::{ids, needs};
use crate::SnapshotId;
use crate::state::StateFolder;
use crate::storage::Unreadable;

/// The packs of a state folder.
#[derive(Clone, Debug)]
pub(crate) struct PackFolder {
    packs: Packs,
    /// Held while it changes what a snapshot or a VM consists of, and while somebody who was not told looks at that.
    swapping: Arc<Mutex<()>>,
    /// What living VMs were started from: neither this folder nor the remote may lose it, whatever becomes of its snapshot.
    of_runs: Arc<Mutex<BTreeMap<String, Pins>>>,
}

impl PackFolder {
    /// Opens the folder. Nothing is collected before [`recall`](Self::recall) has found out what is needed.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        #[cfg(not(test))]
        let packs = Packs::open(root, Arc::new(ImagePacks))?;
        #[cfg(test)]
        let packs =
            Packs::open_with(root, Arc::new(ImagePacks), dormouse_store::Steps::telling(crate::steps::reached))?;
        Ok(Self { packs, swapping: Arc::default(), of_runs: Arc::default() })
    }

    pub(crate) fn packs(&self) -> &Packs {
        &self.packs
    }

    /// Nobody else replaces or removes a snapshot, or what a VM inherits from, while this is held.
    pub(crate) fn swapping(&self) -> MutexGuard<'_, ()> {
        self.swapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the packs of a published snapshot are unpinned.
    pub(crate) fn snapshot_is_there(&self, id: &SnapshotId, packs: &[PackRef]) {
        self.refer(id.as_str(), packs);
    }

    /// A snapshot's folder is gone, and with it its need.
    pub(crate) fn snapshot_is_gone(&self, id: &SnapshotId) {
        self.unrefer(id.as_str());
    }

    /// A VM is started in `run` from an image with these packs: its next image inherits from them.
    pub(crate) fn run_begins(&self, run: &Path, packs: &[PackRef]) {
        self.refer(&name_of_run(run), packs);
        self.pin_for(run, packs.iter().map(|pack| pack.id));
    }

    /// A VM's folder is gone.
    pub(crate) fn run_is_gone(&self, run: &Path) {
        self.unrefer(&name_of_run(run));
        drop(self.of_runs().remove(&name_of_run(run)));
        self.collect();
    }

    /// Removes what nobody needs. What cannot be removed now goes with a later call.
    pub(crate) fn collect(&self) {
        match self.packs.collect() {
            Ok(_) => {}
            Err(StoreError::ReferencesUnknown) => tracing::debug!("it is not known which packs are needed: all stay"),
            Err(error) => tracing::warn!(%error, "packs that are not needed could not be removed"),
        }
    }

    /// Finds out from manifests and folders of VMs what is needed. If one cannot be read, nothing is ever collected.
    pub(crate) fn recall(&self, folder: &StateFolder) {
        if let Err(unreadable) = self.packs.recall(|| needs(folder).known()) {
            for Unreadable { what, why } in unreadable {
                tracing::warn!(what, why, "it is not known which packs this needs, so none is removed");
            }
        }
        self.pin_living(folder);
    }

    /// Pins what the VMs need that a former daemon left.
    fn pin_living(&self, folder: &StateFolder) {
        for run in fs::read_dir(folder.runs()).into_iter().flatten().flatten() {
            let name = SnapshotName::try_from(name_of_run(&run.path())).ok();
            self.pin_for(&run.path(), name.and_then(|name| self.packs.needed_by(&name)).unwrap_or_default());
        }
    }

    fn pin_for(&self, run: &Path, packs: impl IntoIterator<Item = PackId>) {
        let pins = self.packs.pin(packs);
        // The former ones, if any, are let go only now.
        drop(self.of_runs().insert(name_of_run(run), pins));
    }

    fn of_runs(&self) -> MutexGuard<'_, BTreeMap<String, Pins>> {
        self.of_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refer(&self, name: &str, packs: &[PackRef]) {
        if let Ok(name) = SnapshotName::try_from(name.to_owned()) {
            self.packs.refer(name, ids(packs));
        }
    }

    fn unrefer(&self, name: &str) {
        if let Ok(name) = SnapshotName::try_from(name.to_owned()) {
            self.packs.unrefer(&name);
        }
    }
}

/// No snapshot's id has a dash.
pub(super) fn name_of_run(run: &Path) -> String {
    format!("run-{}", run.file_name().unwrap_or_default().to_string_lossy())
}
