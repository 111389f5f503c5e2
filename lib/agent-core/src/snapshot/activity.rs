//! The lock between a snapshot and everything that must not run across one.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Held shared by work that a snapshot waits for (starting a process, a reclaim pass), exclusively from prepare until restore or abort.
/// A lock and not a flag: work that has begun is waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<RwLock<()>>);

/// Shared hold.
pub(crate) struct Active(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

/// Exclusive hold.
#[derive(Debug)]
pub(super) struct Quiet(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockWriteGuard<()>);

impl Activity {
    /// `None` while a snapshot is prepared or wants to be.
    pub(crate) fn begin(&self) -> Option<Active> {
        Arc::clone(&self.0).try_read_owned().ok().map(Active)
    }

    /// Waits for work under way. New work is refused from this call on.
    pub(super) async fn quiet(&self) -> Quiet {
        Quiet(Arc::clone(&self.0).write_owned().await)
    }
}
