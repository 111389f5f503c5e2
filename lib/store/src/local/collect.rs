//! Letting packs go: those that no snapshot needs, and those that can be fetched again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use dormouse_guest_mem::Bytes;

use super::Packs;
use crate::cache::{self, Eviction};
use crate::gc::{self, Plan, References};
use crate::{PackId, PackInfo, SnapshotName, StoreError, durable};

/// What a collection or an eviction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that are gone.
    pub removed: Vec<PackId>,
    /// What they took.
    pub freed: Bytes,
    /// Packs that snapshots need and that are not in the folder, with those snapshots.
    pub absent: BTreeMap<PackId, Vec<SnapshotName>>,
}

impl Packs {
    /// Says which snapshots there are and what they need, in place of everything that was said before. To be called when
    /// all manifests have been read, and only if all could be: until then nothing is collected.
    pub fn set_references(&self, references: References) {
        self.state().references = Some(references);
    }

    /// Says which packs a new or changed snapshot needs. To be called while they are still pinned.
    pub fn refer(&self, snapshot: SnapshotName, packs: BTreeSet<PackId>) {
        let mut state = self.state();
        if let Some(said) = &mut state.said {
            said.push((snapshot.clone(), Some(packs.clone())));
        }
        // Before `set_references` it would be lost; the caller's manifests say the same then.
        if let Some(references) = &mut state.references {
            references.insert(snapshot, packs);
        }
    }

    /// Says that a snapshot is gone. What only it needed goes with the next [`collect`](Self::collect).
    pub fn unrefer(&self, snapshot: &SnapshotName) {
        let mut state = self.state();
        if let Some(said) = &mut state.said {
            said.push((snapshot.clone(), None));
        }
        if let Some(references) = &mut state.references {
            references.remove(snapshot);
        }
    }

    /// As [`set_references`](Self::set_references), while snapshots come and go: `read` finds out what the manifests say, and what
    /// was said of snapshots meanwhile counts more. Nothing changes if it fails. Only one caller at a time.
    ///
    /// # Errors
    /// What `read` gave.
    pub fn recall<E>(&self, read: impl FnOnce() -> Result<References, E>) -> Result<(), E> {
        self.state().said = Some(Vec::new());
        let read = read();
        let mut state = self.state();
        let said = state.said.take().unwrap_or_default();
        let mut references = read?;
        for (snapshot, packs) in said {
            match packs {
                Some(packs) => references.insert(snapshot, packs),
                None => drop(references.remove(&snapshot)),
            }
        }
        state.references = Some(references);
        Ok(())
    }

    /// What [`collect`](Self::collect) would do now.
    ///
    /// # Errors
    /// [`StoreError::ReferencesUnknown`], [`StoreError::Io`].
    pub fn plan(&self) -> Result<Plan, StoreError> {
        let present = self.list()?;
        let state = self.state();
        let references = state.references.as_ref().ok_or(StoreError::ReferencesUnknown)?;
        Ok(gc::plan(&present, references, |id| state.pins.has(id)))
    }

    /// The packs that a snapshot needs, as said last.
    #[must_use]
    pub fn needed_by(&self, snapshot: &SnapshotName) -> Option<BTreeSet<PackId>> {
        self.state().references.as_ref()?.of(snapshot).cloned()
    }

    /// Removes every pack that no snapshot needs and that is not pinned. A crash in between leaves the rest for the next
    /// time.
    ///
    /// # Errors
    /// [`StoreError::ReferencesUnknown`], [`StoreError::Io`].
    pub fn collect(&self) -> Result<Collected, StoreError> {
        let plan = self.plan()?;
        let mut collected = self.remove_all(&plan.remove, |needed| !needed)?;
        collected.absent = plan.absent;
        Ok(collected)
    }

    /// Removes the longest unused of the packs that are `elsewhere` and not pinned, until all together take `bound` at
    /// most.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn evict(
        &self,
        bound: Bytes,
        elsewhere: impl Fn(&PackId) -> bool,
    ) -> Result<(Collected, Eviction), StoreError> {
        let present = self.list()?;
        let eviction = {
            let pinned: BTreeSet<PackId> = {
                let state = self.state();
                present.iter().map(|pack| pack.id).filter(|id| state.pins.has(id)).collect()
            };
            cache::plan(&present, bound, |id| !pinned.contains(id) && elsewhere(id))
        };
        Ok((self.remove_all(&eviction.evict, |_| true)?, eviction))
    }

    /// Half-written packs that nobody is writing any more: how many there are, and what they take. Removes them if `remove`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn leftovers(&self, remove: bool) -> Result<(u64, Bytes), StoreError> {
        let mut found = (0, Bytes(0));
        // Held meanwhile, so that no new one begins that is not seen.
        let state = self.state();
        for entry in super::packs::entries(&self.staging())? {
            let path = entry.path();
            if state.writing.iter().any(|number| self.part(*number) == path) {
                continue;
            }
            let len = entry.metadata().map_or(0, |meta| meta.blocks() * 512);
            if !remove || durable::remove_file(&path)? {
                found = (found.0 + 1, Bytes(found.1.0 + len));
            }
        }
        Ok(found)
    }

    /// Removes one pack that no snapshot needs.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Missing`], [`StoreError::ReferencesUnknown`], [`StoreError::Io`].
    pub fn remove(&self, id: &PackId) -> Result<(), StoreError> {
        let removed = {
            let state = self.state();
            let references = state.references.as_ref().ok_or(StoreError::ReferencesUnknown)?;
            if state.pins.has(id) || references.count(id) > 0 {
                return Err(StoreError::InUse { id: *id });
            }
            durable::remove_file(&self.path(id))?
        };
        if !removed {
            return Err(StoreError::Missing { id: *id });
        }
        durable::sync_dir(&self.folder_of(id))
    }

    /// Removes those of `packs` that are not pinned and for which `goes` agrees, told whether a snapshot needs it *now*: it
    /// may have become pinned or needed since the plan was made.
    fn remove_all(&self, packs: &[PackInfo], goes: impl Fn(bool) -> bool) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let mut folders = BTreeSet::new();
        let mut failed = None;
        for pack in packs {
            let removed = {
                let state = self.state();
                let needed = state.references.as_ref().is_none_or(|references| references.count(&pack.id) > 0);
                if state.pins.has(&pack.id) || !goes(needed) {
                    continue;
                }
                durable::remove_file(&self.path(&pack.id))
            };
            match removed {
                Ok(true) => {
                    self.steps().reached("removed");
                    collected.removed.push(pack.id);
                    collected.freed.0 += pack.len.0;
                    folders.insert(self.folder_of(&pack.id));
                }
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for folder in folders {
            durable::sync_dir(&folder)?;
        }
        failed.map_or(Ok(collected), Err)
    }
}
