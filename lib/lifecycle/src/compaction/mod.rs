//! Rewriting the packs of snapshots in the background, so that what a resume costs does not grow with the number of pauses.
//!
//! A snapshot is looked at when it was published, and once when the daemon starts. What it is made of is rewritten beside it;
//! then its manifest is replaced in one step ([`swap`]). Whoever began to read it before reads on from what it had ([`readers`]).
//! If the remote did not give what that takes, it is looked at again after a while ([`later`]).

mod later;
mod one;
mod readers;
mod swap;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use dormouse_guest_mem::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use later::Later;
pub(crate) use one::Outcome;
pub(crate) use readers::{Held, Readers};

use crate::error::with_causes;
use crate::host::Shared;
use crate::snapshot::snapshots_in;
use crate::{Error, SnapshotId};

/// What was done since the daemon started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) compacted: u64,
    pub(crate) written: Bytes,
    pub(crate) failed: u64,
}

/// The snapshots that are to be looked at, and the one that is.
pub(crate) struct Compactor {
    queue: Mutex<Option<UnboundedSender<SnapshotId>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    current: Mutex<Option<(SnapshotId, Arc<AtomicBool>)>>,
    stopping: AtomicBool,
    waiting: AtomicU64,
    done: Mutex<Done>,
}

impl Default for Compactor {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            worker: Mutex::default(),
            current: Mutex::default(),
            stopping: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            done: Mutex::default(),
        }
    }
}

impl Compactor {
    /// Starts the work, beginning with what is there already.
    pub(crate) fn start(&self, shared: &Arc<Shared>) {
        let (queue, snapshots) = unbounded_channel();
        *lock(&self.queue) = Some(queue);
        for id in snapshots_in(&shared.folder).unwrap_or_default() {
            self.consider(&id);
        }
        *lock(&self.worker) = Some(tokio::spawn(work(Arc::downgrade(shared), snapshots)));
    }

    /// Has a snapshot looked at, some time.
    pub(crate) fn consider(&self, id: &SnapshotId) {
        if let Some(queue) = &*lock(&self.queue) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = queue.send(id.clone());
        }
    }

    /// A snapshot is being removed: what is done for it is in vain.
    pub(crate) fn give_up(&self, id: &SnapshotId) {
        if let Some((_, stop)) = lock(&self.current).as_ref().filter(|(current, _)| current == id) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the work, and waits until it has ended.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(lock(&self.queue).take());
        if let Some((_, stop)) = &*lock(&self.current) {
            stop.store(true, Ordering::Relaxed);
        }
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker {
            let _ = worker.await;
        }
    }

    /// How many snapshots are still to be looked at.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Done {
        *lock(&self.done)
    }

    fn begin(&self, id: &SnapshotId) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(self.stopping.load(Ordering::Relaxed)));
        *lock(&self.current) = Some((id.clone(), Arc::clone(&stop)));
        stop
    }

    fn note(&self, change: impl FnOnce(&mut Done)) {
        change(&mut lock(&self.done));
    }
}

async fn work(shared: Weak<Shared>, mut snapshots: UnboundedReceiver<SnapshotId>) {
    let mut later = Later::default();
    loop {
        let due = later.next();
        let again = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let new = tokio::select! {
            biased;
            new = snapshots.recv() => match new {
                Some(id) => Some(id),
                None => return,
            },
            () = again => None,
        };
        let Some(shared) = shared.upgrade() else { return };
        if shared.compactor.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Some(id) = new.clone().or_else(|| later.take(tokio::time::Instant::now())) else { continue };
        match look_at(&shared, &id).await {
            Err(Error::NotFetched { .. }) => {
                let pause = later.failed(&id, tokio::time::Instant::now());
                tracing::info!(snapshot = %id, ?pause, "it is looked at again later");
            }
            _ => later.ended(&id),
        }
        if new.is_some() {
            shared.compactor.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Looks at one snapshot, and tells what came of it.
#[cfg(test)]
pub(crate) async fn compact(shared: &Arc<Shared>, id: &SnapshotId) -> Option<Outcome> {
    look_at(shared, id).await.ok().flatten()
}

/// Looks at one snapshot, and tells people what came of it.
async fn look_at(shared: &Arc<Shared>, id: &SnapshotId) -> crate::Result<Option<Outcome>> {
    let stop = shared.compactor.begin(id);
    let began = Instant::now();
    let (working, snapshot) = (Arc::clone(shared), id.clone());
    let outcome = crate::blocking(move || one::compact(&working, &snapshot, &stop)).await;
    *lock(&shared.compactor.current) = None;
    match &outcome {
        Ok(Some(outcome)) => {
            shared.compactor.note(|done| {
                done.compacted += 1;
                done.written.0 += outcome.written.0;
            });
            let Outcome { packs_before, packs_after, written } = outcome;
            tracing::info!(snapshot = %id, packs_before, packs_after, %written, took = ?began.elapsed(), "compacted");
        }
        Ok(None) | Err(Error::Cancelled | Error::ShuttingDown | Error::NoSnapshot(_)) => {}
        Err(error) => {
            shared.compactor.note(|done| done.failed += 1);
            tracing::warn!(snapshot = %id, error = with_causes(error), "a snapshot could not be compacted and stays as it is");
        }
    }
    outcome
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
