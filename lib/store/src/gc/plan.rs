//! What a collection does, decided before anything is done.

use std::collections::BTreeMap;

use dormouse_guest_mem::Bytes;

use super::References;
use crate::{PackId, PackInfo, SnapshotName};

/// What a collection finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs that no snapshot needs and that are not pinned.
    pub remove: Vec<PackInfo>,
    /// Packs that no snapshot needs but that are pinned. A later collection removes them.
    pub pinned: Vec<PackId>,
    /// Packs that snapshots need and that are not in the folder, with those snapshots. Nothing is wrong with that if they
    /// can be fetched.
    pub absent: BTreeMap<PackId, Vec<SnapshotName>>,
}

impl Plan {
    /// What the removal frees.
    #[must_use]
    pub fn frees(&self) -> Bytes {
        Bytes(self.remove.iter().map(|pack| pack.len.0).sum())
    }
}

/// Decides what may go of the packs in `present`.
#[must_use]
pub fn plan(present: &[PackInfo], references: &References, pinned: impl Fn(&PackId) -> bool) -> Plan {
    let mut plan = Plan::default();
    for pack in present.iter().filter(|pack| references.count(&pack.id) == 0) {
        if pinned(&pack.id) {
            plan.pinned.push(pack.id);
        } else {
            plan.remove.push(*pack);
        }
    }
    let here: BTreeMap<_, _> = present.iter().map(|pack| (pack.id, ())).collect();
    for id in references.packs().filter(|id| !here.contains_key(id)) {
        plan.absent.insert(*id, references.snapshots_with(id).cloned().collect());
    }
    plan
}
