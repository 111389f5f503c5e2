//! The store as a whole: what it holds and costs, whether every byte is as it was, and what nobody needs.

mod check;
mod findings;
mod garbage;
mod model;
mod remote;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

pub use model::{
    DamagedObject, Garbage, Needed, ObjectKind, RamTotals, StoreStats, Unreadable, Verification, VerifyReport,
    VerifyWatch,
};

use crate::host::blocking;
use crate::{Host, Result};

impl Host {
    /// What is kept, what it costs, and what it stands for.
    ///
    /// # Errors
    /// When folders cannot be listed. A snapshot that cannot be read is told of in the answer.
    pub async fn store_stats(&self) -> Result<StoreStats> {
        let shared = Arc::clone(&self.shared);
        blocking(move || stats::stats(&shared)).await
    }

    /// Reads and checks every byte of these snapshots, or of all, while sandboxes run. Damage is told in the report and is no
    /// error. Of packs that only the remote has it is told whether it has them, unless they are to be fetched.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`](crate::Error::NoSnapshot) for one that is named and not there,
    /// [`Error::Cancelled`](crate::Error::Cancelled), or what kept it from going on.
    pub async fn verify_store(
        &self,
        wanted: impl Into<Verification>,
        watch: Arc<dyn VerifyWatch>,
    ) -> Result<VerifyReport> {
        let wanted = wanted.into();
        // Each takes memory for decoded frames, and all of the disk's speed.
        let _one_at_a_time = self.shared.verifying.lock().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || verify::verify(&shared, wanted, &*watch)).await
    }

    /// Finds out anew what is needed and removes what is not, or only says what that would be.
    ///
    /// # Errors
    /// [`Error::CannotCollect`](crate::Error::CannotCollect) names what cannot be read; nothing is removed then.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Garbage> {
        let _one_at_a_time = self.shared.collecting.lock().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || garbage::collect(&shared, dry_run)).await
    }

    /// The same, and then on the remote, where only packs go that are older than
    /// [`Limits::remote_garbage`](crate::Limits::remote_garbage). Only one daemon may do this on a remote.
    ///
    /// # Errors
    /// As [`collect_garbage`](Self::collect_garbage); [`Error::Remote`](crate::Error::Remote) when there is no remote, or it does
    /// not answer, or a record on it cannot be read.
    pub async fn collect_remote_garbage(&self, dry_run: bool) -> Result<Garbage> {
        let garbage = self.collect_garbage(dry_run).await?;
        let collected = self.shared.remote.collect(self.shared.limits.remote_garbage, dry_run).await?;
        let (remote_packs, remote_freed) = (collected.removed.len() as u64, collected.freed);
        Ok(Garbage { remote_packs, remote_freed, ..garbage })
    }
}
