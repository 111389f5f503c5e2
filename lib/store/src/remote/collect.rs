//! Removing packs from the remote that no snapshot there or here needs.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use dormouse_guest_mem::Bytes;

use super::download::blocking;
use super::{RemoteError, Shared};
use crate::{PackId, SnapshotName};

/// What a collection of the remote did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCollected {
    /// Packs that are gone from the remote.
    pub removed: Vec<PackId>,
    /// What they took.
    pub freed: Bytes,
}

impl Shared {
    /// Removes packs that neither a record on the remote nor a snapshot on this machine needs and that were there before
    /// `before`, or only says which these are. Nothing is removed when a record cannot be read.
    pub(super) async fn collect_remote(
        &self,
        before: SystemTime,
        dry_run: bool,
    ) -> Result<RemoteCollected, RemoteError> {
        let _writing = self.writing.lock().await;
        let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        // Packs first: one that comes after the list is not looked at.
        let packs = self.objects.list(&self.keys.packs()).await?;
        let mut needed = BTreeSet::new();
        for name in self.list_remote().await? {
            match self.describe(&name).await {
                Ok(record) => needed.extend(record.packs),
                // Removed meanwhile.
                Err(RemoteError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut collected = RemoteCollected::default();
        for pack in packs {
            let Some(id) = self.keys.pack_of(&pack.location) else { continue };
            let old = u64::try_from(pack.last_modified.timestamp()).is_ok_and(|secs| secs < before);
            if !old || needed.contains(&id) || self.is_wanted(&id) {
                continue;
            }
            collected.removed.push(id);
            collected.freed.0 = collected.freed.0.saturating_add(pack.size);
            if dry_run {
                continue;
            }
            // From here on it is not believed to be there, so that whoever needs it from now on sends it again.
            let ledger = self.ledger.clone();
            blocking(move || ledger.remove_pack(&id)).await?;
            self.objects.delete(&pack.location).await?;
            self.steps.reached("remote pack gone");
        }
        Ok(collected)
    }

    /// The snapshots on the remote that have a record.
    pub(super) async fn list_remote(&self) -> Result<Vec<SnapshotName>, RemoteError> {
        let objects = self.objects.list(&self.keys.snapshots()).await?;
        let mut names: Vec<_> = objects.iter().filter_map(|object| self.keys.record_of(&object.location)).collect();
        names.sort();
        Ok(names)
    }

    fn is_wanted(&self, id: &PackId) -> bool {
        self.packs.is_pinned(id) || self.known().values().any(|snapshot| snapshot.packs.contains(id))
    }
}
