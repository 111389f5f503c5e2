//! Which snapshot needs which packs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{PackId, SnapshotName};

/// Which snapshot needs which packs, counted by pack. Never stored: it is rebuilt from the manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    by_snapshot: BTreeMap<SnapshotName, BTreeSet<PackId>>,
    counts: BTreeMap<PackId, u64>,
}

impl References {
    /// Says which packs a snapshot needs, in place of what was said of it before.
    pub fn insert(&mut self, snapshot: SnapshotName, packs: BTreeSet<PackId>) {
        for id in &packs {
            *self.counts.entry(*id).or_default() += 1;
        }
        if let Some(before) = self.by_snapshot.insert(snapshot, packs) {
            self.uncount(&before);
        }
    }

    /// Says that a snapshot is gone. Whether it was known.
    pub fn remove(&mut self, snapshot: &SnapshotName) -> bool {
        let Some(before) = self.by_snapshot.remove(snapshot) else { return false };
        self.uncount(&before);
        true
    }

    /// How many snapshots need a pack.
    #[must_use]
    pub fn count(&self, id: &PackId) -> u64 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    /// All packs that a snapshot needs.
    pub fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.counts.keys()
    }

    /// What a snapshot needs.
    #[must_use]
    pub fn of(&self, snapshot: &SnapshotName) -> Option<&BTreeSet<PackId>> {
        self.by_snapshot.get(snapshot)
    }

    /// The snapshots that need a pack.
    pub fn snapshots_with<'a>(&'a self, id: &'a PackId) -> impl Iterator<Item = &'a SnapshotName> {
        self.by_snapshot.iter().filter(move |(_, packs)| packs.contains(id)).map(|(snapshot, _)| snapshot)
    }

    fn uncount(&mut self, packs: &BTreeSet<PackId>) {
        for id in packs {
            if let Some(count) = self.counts.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(id);
                }
            }
        }
    }
}

impl FromIterator<(SnapshotName, BTreeSet<PackId>)> for References {
    fn from_iter<I: IntoIterator<Item = (SnapshotName, BTreeSet<PackId>)>>(snapshots: I) -> Self {
        let mut references = Self::default();
        for (snapshot, packs) in snapshots {
            references.insert(snapshot, packs);
        }
        references
    }
}
