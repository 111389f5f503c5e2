//! Keeping the folder of packs within its bound.

use std::collections::BTreeSet;

use super::download::blocking;
use super::queue::Job;
use super::{RemoteError, Shared};
use crate::{PackId, cache};

impl Shared {
    /// Evicts packs that the remote has until the folder is within its bound. The remote is asked for each of them: what it
    /// lost meanwhile stays here.
    pub(super) async fn make_room(&self) -> Result<(), RemoteError> {
        let Some(bound) = self.cache else { return Ok(()) };
        let mut confirmed = BTreeSet::new();
        let mut lost = BTreeSet::new();
        loop {
            let (packs, ledger, gone) = (self.packs.clone(), self.ledger.clone(), lost.clone());
            let plan = blocking(move || {
                let present = packs.list()?;
                Ok(cache::plan(&present, bound, |id| !packs.is_pinned(id) && !gone.contains(id) && ledger.has_pack(id)))
            })
            .await?;
            let mut asked = false;
            for pack in plan.evict {
                if confirmed.contains(&pack.id) {
                    continue;
                }
                asked = true;
                let key = self.keys.pack(&pack.id);
                if self.objects.len(&key, &self.objects.limits.upload).await? == Some(pack.len.0) {
                    confirmed.insert(pack.id);
                } else {
                    lost.insert(pack.id);
                }
            }
            // Who was not asked may be in the plan now in place of one that must stay.
            if asked {
                continue;
            }
            let packs = self.packs.clone();
            blocking(move || packs.evict(bound, |id| confirmed.contains(id)).map(drop)).await?;
            return if lost.is_empty() { Ok(()) } else { self.lost(lost).await };
        }
    }

    /// The remote does not have packs that it had: it is not believed to, and they go up again.
    async fn lost(&self, lost: BTreeSet<PackId>) -> Result<(), RemoteError> {
        tracing::warn!(packs = lost.len(), remote = %self.objects.shown, "the remote has lost packs; they go up again");
        let (ledger, gone) = (self.ledger.clone(), lost.clone());
        blocking(move || gone.iter().try_for_each(|id| ledger.remove_pack(id))).await?;
        let needing: Vec<_> =
            self.known().values().filter(|snapshot| !snapshot.packs.is_disjoint(&lost)).cloned().collect();
        for snapshot in needing {
            let reason = "the remote has lost a pack of it".to_owned();
            self.push_later(snapshot.name.clone(), Job::Upload(snapshot), reason);
        }
        Ok(())
    }
}
