//! The watchers of this agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connectrpc::ConnectError;
use dormouse_agent_proto::filesystem::FilesystemEvent;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::WatchError;
use super::queue::Budget;
use super::watcher::{WatchSpec, Watcher};
use crate::identity::UserDatabase;

/// Watchers at a time, streams included; the kernel's default lets one user have 128 (fs.inotify.max_user_instances).
const MAX_WATCHERS: usize = 64;
/// Memory for waiting events of all watchers together.
const MAX_WAITING: usize = 16 << 20;

/// Ends its task when dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A watcher at work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    watcher: Arc<Watcher>,
    _follow: Task,
    _slot: OwnedSemaphorePermit,
}

impl Watching {
    /// Events from now on; a failure ends it.
    pub(crate) fn events(self) -> impl Stream<Item = Result<FilesystemEvent, ConnectError>> + Send {
        stream::unfold(Some(self), |watching| async move {
            let watching = watching?;
            Some(match watching.watcher.next().await {
                Ok(event) => (Ok(event.into()), Some(watching)),
                Err(error) => (Err(ConnectError::from(&*error)), None),
            })
        })
    }
}

#[derive(Debug)]
struct Polled {
    watching: Watching,
    last: Instant,
    _expiry: Task,
}

type Polling = Arc<Mutex<HashMap<String, Polled>>>;

/// All watchers. Those that are polled have a name; a stream has its own.
#[derive(Debug)]
pub(crate) struct Watchers {
    users: UserDatabase,
    slots: Arc<Semaphore>,
    budget: Arc<Budget>,
    count: AtomicU64,
    polled: Polling,
    idle: Duration,
}

fn with<T>(polled: &Polling, f: impl FnOnce(&mut HashMap<String, Polled>) -> T) -> T {
    f(&mut polled.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Watchers {
    /// A polled watcher goes away after `idle` without a poll.
    pub(crate) fn new(users: UserDatabase, idle: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_WATCHERS));
        let budget = Arc::new(Budget::new(MAX_WAITING));
        Self { users, slots, budget, count: AtomicU64::new(0), polled: Polling::default(), idle }
    }

    /// Begins to watch; every change from its return on is told.
    pub(crate) async fn watch(&self, spec: WatchSpec) -> Result<Watching, WatchError> {
        let no_slot = |_| WatchError::TooManyWatchers(MAX_WATCHERS);
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(no_slot)?;
        let (users, budget, root) = (self.users.clone(), Arc::clone(&self.budget), spec.root.clone());
        let failed = |source| WatchError::Io { path: root, source };
        let begun = tokio::task::spawn_blocking(move || Watcher::new(spec, users, budget)).await;
        let (watcher, inotify) = match begun {
            Ok(begun) => begun?,
            Err(error) => return Err(failed(std::io::Error::other(error))),
        };
        let watcher = Arc::new(watcher);
        let inotify = inotify.ready().map_err(failed)?;
        let follow = tokio::spawn(Arc::clone(&watcher).follow(inotify));
        Ok(Watching { watcher, _follow: Task(follow.abort_handle()), _slot: slot })
    }

    /// Begins to watch for a client that polls. Returns the watcher's id.
    pub(crate) async fn create(&self, spec: WatchSpec) -> Result<String, WatchError> {
        let watching = self.watch(spec).await?;
        let id = format!("w{}", self.count.fetch_add(1, Ordering::Relaxed));
        let expiry = tokio::spawn(expire(Arc::clone(&self.polled), id.clone(), self.idle));
        let polled = Polled { watching, last: Instant::now(), _expiry: Task(expiry.abort_handle()) };
        with(&self.polled, |all| all.insert(id.clone(), polled));
        Ok(id)
    }

    /// Events since the last call, all that has happened before this one included.
    pub(crate) async fn fetch(&self, id: &str) -> Result<Vec<FilesystemEvent>, ConnectError> {
        let watcher = with(&self.polled, |all| {
            let polled = all.get_mut(id)?;
            polled.last = Instant::now();
            Some(Arc::clone(&polled.watching.watcher))
        });
        let watcher = watcher.ok_or_else(|| WatchError::NoWatcher(id.to_owned()))?;
        let fetched = tokio::task::spawn_blocking(move || watcher.fetch()).await;
        match fetched.map_err(|error| ConnectError::internal(error.to_string()))? {
            Ok(events) => Ok(events.into_iter().map(FilesystemEvent::from).collect()),
            Err(error) => Err(ConnectError::from(&*error)),
        }
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), WatchError> {
        let removed = with(&self.polled, |all| all.remove(id));
        removed.map(drop).ok_or_else(|| WatchError::NoWatcher(id.to_owned()))
    }
}

/// Removes the watcher `id` when nobody has polled it for `idle`.
async fn expire(polled: Polling, id: String, idle: Duration) {
    tokio::time::sleep(idle).await;
    loop {
        let last = with(&polled, |all| all.get(&id).map(|polled| polled.last));
        let Some(due) = last.and_then(|last| last.checked_add(idle)) else { return };
        if due <= Instant::now() {
            // Dropped outside the lock.
            let _gone = with(&polled, |all| all.remove(&id));
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}
