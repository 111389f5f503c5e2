//! Doing what is in the queue, one snapshot after the other, for as long as the daemon lives.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::queue::{Job, Queue, Ticket};
use super::{LocalSnapshot, RemoteError, Shared};
use crate::SnapshotName;

impl Shared {
    pub(super) async fn work(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (taken, due) = {
                let mut queue = self.queue();
                (queue.take(Instant::now()), queue.due())
            };
            let Some((ticket, job)) = taken else {
                let trim = self.queue().trim();
                if let Some(asked) = trim {
                    self.trim().await;
                    self.queue().trimmed(asked);
                    self.announce();
                    continue;
                }
                let later = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = later => {}
                    alive = changed.changed() => if alive.is_err() { return },
                }
                continue;
            };
            let ended = {
                let _writing = self.writing.lock().await;
                self.act(&ticket, job).await
            };
            let failed = match ended {
                // What is to be done instead is in the queue, if anything.
                Ok(()) | Err(RemoteError::Removed { .. }) => None,
                Err(error) => {
                    tracing::warn!(snapshot = %ticket.snapshot, %error, "the remote is behind; it is tried again later");
                    Some(error.to_string())
                }
            };
            self.queue().finish(&ticket, failed, Instant::now(), self.objects.limits.again);
            self.announce();
        }
    }

    pub(super) fn push(&self, snapshot: SnapshotName, job: Job) {
        self.queue().push(snapshot, job);
        self.announce();
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push_later(&self, snapshot: SnapshotName, job: Job, reason: String) {
        let due = Instant::now().checked_add(self.objects.limits.again);
        self.queue().push_later(snapshot, job, reason, due);
        self.announce();
    }

    /// The snapshots on this machine.
    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<SnapshotName, LocalSnapshot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(&self, ticket: &Ticket, job: Job) -> Result<(), RemoteError> {
        match job {
            Job::Remove => self.take_away(&ticket.snapshot).await,
            Job::Upload(snapshot) => {
                self.take_up(&snapshot, &|| self.queue().is_current(ticket)).await?;
                self.want_trim();
                Ok(())
            }
        }
    }

    async fn trim(&self) {
        let _writing = self.writing.lock().await;
        if let Err(error) = self.make_room().await {
            tracing::warn!(%error, "the folder of packs stays over its bound");
        }
    }

    /// Lets the folder of packs be brought within its bound when nothing else is to be done.
    pub(super) fn want_trim(&self) {
        if self.cache.is_some() {
            self.queue().want_trim();
            self.announce();
        }
    }

    pub(super) fn announce(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
