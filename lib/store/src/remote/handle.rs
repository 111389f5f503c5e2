//! The remote as its users see it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dormouse_guest_mem::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::download::blocking;
use super::keys::Keys;
use super::ledger::{Entry, Ledger, Progress};
use super::objects::Objects;
use super::queue::{Job, JobState, JobStatus};
use super::snapshot::LocalSnapshot;
use super::{RemoteCollected, RemoteError, RemoteLimits, RemoteSnapshot, Shared, Target};
use crate::{PackId, Packs, Pins, SnapshotName, Steps};

/// A pack on its way, for everybody who waits for it.
pub(super) type Fetch = SharedFuture<BoxFuture<'static, Result<(), RemoteError>>>;

/// What a remote is made of.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Where it is.
    pub target: Target,
    /// How patient to be with it.
    pub limits: RemoteLimits,
    /// The folder of packs in front of it.
    pub packs: Packs,
    /// The folder for what is known about remotes; made if it is not there.
    pub ledger: PathBuf,
    /// What the folder of packs may take. Packs that the remote has are evicted when it takes more.
    pub cache: Option<Bytes>,
    /// Whom to tell about every step. For tests.
    pub steps: Steps,
}

/// How far a snapshot is on its way to the remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadState {
    /// It is not to go up, as far as is known.
    NotWanted,
    /// Others go first.
    Waiting,
    /// It is on its way.
    Working,
    /// It failed, and is tried again later.
    Failed {
        /// Why.
        reason: String,
    },
    /// All of it is there.
    Done,
}

/// A remote, and the task that keeps it up to date. That ends with the last clone of this; what it had not come to is done
/// after the next start.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    _worker: Arc<Worker>,
}

#[derive(Debug)]
struct Worker(JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Remote {
    /// Starts working with a remote, which is not asked for anything yet. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError::Config`], [`RemoteError::Local`].
    pub fn start(options: RemoteOptions) -> Result<Self, RemoteError> {
        let objects = Objects::connect(&options.target, options.limits)?;
        let shared = Arc::new(Shared {
            keys: Keys::new(objects.connected.prefix.clone()),
            fetching: Semaphore::new(objects.limits.packs_at_once.max(1)),
            objects,
            packs: options.packs,
            ledger: Ledger::open(&options.ledger, &options.target)?,
            cache: options.cache,
            steps: options.steps,
            known: Mutex::default(),
            queue: Mutex::default(),
            changed: watch::Sender::new(0),
            fetches: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        });
        let worker = Worker(tokio::spawn(Arc::clone(&shared).work()));
        Ok(Self { shared, _worker: Arc::new(worker) })
    }

    /// Says which snapshots there are on this machine. Whatever of them is not on the remote goes up. If `complete`, these
    /// are all, and what went up earlier and is not among them is removed there. To be called once after the start.
    ///
    /// # Errors
    /// [`RemoteError::Local`].
    pub async fn reconcile(&self, local: Vec<LocalSnapshot>, complete: bool) -> Result<(), RemoteError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            for snapshot in local {
                let up = shared.is_up(&snapshot)?;
                shared.known().insert(snapshot.name.clone(), snapshot.clone());
                if !up {
                    shared.push(snapshot.name.clone(), Job::Upload(snapshot));
                }
            }
            if !complete {
                return Ok(());
            }
            for (name, entry) in shared.ledger.snapshots()? {
                if shared.known().contains_key(&name) {
                    continue;
                }
                if entry.is_some_and(|entry| entry.state == Progress::Fetched) {
                    shared.ledger.remove_snapshot(&name)?;
                } else {
                    shared.push(name, Job::Remove);
                }
            }
            Ok(())
        })
        .await
    }

    /// Lets a new or changed snapshot go up, in the background. To be called when it is published.
    pub fn upload(&self, snapshot: LocalSnapshot) {
        self.shared.known().insert(snapshot.name.clone(), snapshot.clone());
        self.shared.push(snapshot.name.clone(), Job::Upload(snapshot));
    }

    /// Says that a snapshot was removed from this machine. What went up of it from here is removed too, in the background.
    pub fn forget(&self, name: &SnapshotName) {
        self.shared.known().remove(name);
        let entry = self.shared.ledger.snapshot(name);
        let working = self.shared.queue().cancel(name);
        match entry {
            Some(Entry { state: Progress::Fetched, .. }) => {
                // If it stays it is removed at the next start.
                let _ = self.shared.ledger.remove_snapshot(name);
            }
            None if !working => {}
            _ => self.shared.push(name.clone(), Job::Remove),
        }
        self.shared.announce();
    }

    /// What is still to be done on the remote.
    #[must_use]
    pub fn status(&self) -> Vec<JobStatus> {
        self.shared.queue().status()
    }

    /// Waits until nothing waits and nothing is being done, and returns what failed and is tried again later.
    pub async fn settled(&self) -> Vec<JobStatus> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            {
                let queue = self.shared.queue();
                if queue.is_settled() {
                    return queue.status();
                }
            }
            // The sender lives as long as this does.
            let _ = changed.changed().await;
        }
    }

    /// Makes sure that packs are in the folder, and keeps them there until the result is dropped. Those that are not are
    /// fetched, each once however many ask.
    ///
    /// # Errors
    /// [`RemoteError`] for the first pack that cannot be had.
    pub async fn ensure(&self, ids: impl IntoIterator<Item = PackId>) -> Result<Pins, RemoteError> {
        let pins = self.shared.packs.pin(ids);
        let packs = self.shared.packs.clone();
        let wanted = pins.ids().to_vec();
        let missing = blocking(move || {
            let mut missing = Vec::new();
            for id in wanted {
                if packs.len(&id)?.is_none() {
                    missing.push(id);
                }
            }
            Ok(missing)
        })
        .await?;
        if missing.is_empty() {
            return Ok(pins);
        }
        join_all(missing.into_iter().map(|id| self.fetch(id))).await.into_iter().collect::<Result<(), _>>()?;
        // What has come is pinned, so others go. Whoever waits for the packs does not wait for that.
        self.trim();
        Ok(pins)
    }

    /// Says that the folder of packs may have come over its bound, or that packs may go that were pinned until now. It is
    /// looked after in the background; with no bound this does nothing.
    pub fn trim(&self) {
        self.shared.want_trim();
    }

    /// Asks the remote once whether it can be worked with, and waits for `patience` at most.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer, or not now; anything else when it will not work without a change on either side.
    pub async fn probe(&self, patience: Duration) -> Result<(), RemoteError> {
        self.shared.objects.probe(&self.shared.keys.probe(), patience).await
    }

    /// How far a snapshot on this machine is on its way to the remote. Blocks on file I/O.
    ///
    /// # Errors
    /// [`RemoteError::Local`].
    pub fn upload_of(&self, snapshot: &LocalSnapshot) -> Result<UploadState, RemoteError> {
        let Some(state) = self.shared.queue().upload(&snapshot.name) else {
            return Ok(if self.shared.is_up(snapshot)? { UploadState::Done } else { UploadState::NotWanted });
        };
        Ok(match state {
            JobState::Waiting => UploadState::Waiting,
            JobState::Working => UploadState::Working,
            JobState::Failed { reason } => UploadState::Failed { reason },
        })
    }

    /// Whether the remote is known to have a pack. It is not asked.
    #[must_use]
    pub fn has_pack(&self, id: &PackId) -> bool {
        self.shared.ledger.has_pack(id)
    }

    /// Asks the remote how long its copy of a pack is; None if it has none.
    ///
    /// # Errors
    /// [`RemoteError`]
    pub async fn pack_len(&self, id: &PackId) -> Result<Option<Bytes>, RemoteError> {
        let objects = &self.shared.objects;
        Ok(objects.len(&self.shared.keys.pack(id), &objects.limits.fetch).await?.map(Bytes))
    }

    /// The snapshots on the remote.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn list(&self) -> Result<Vec<SnapshotName>, RemoteError> {
        self.shared.list_remote().await
    }

    /// What a snapshot on the remote consists of.
    ///
    /// # Errors
    /// [`RemoteError`]; `Absent` if there is none of that name.
    pub async fn describe(&self, name: &SnapshotName) -> Result<RemoteSnapshot, RemoteError> {
        self.shared.describe(name).await
    }

    /// Gets the files of a snapshot into the empty folder `dir`. The caller publishes it, and refers to the packs; those
    /// come with [`ensure`](Self::ensure) when they are needed. A snapshot that is fetched is not removed from the remote
    /// when it is removed here.
    ///
    /// # Errors
    /// [`RemoteError`]; what is in `dir` then is good for nothing.
    pub async fn fetch_snapshot(&self, name: &SnapshotName, dir: &Path) -> Result<RemoteSnapshot, RemoteError> {
        let record = self.shared.describe(name).await?;
        self.shared.fetch_files(&record, dir).await?;
        Ok(record)
    }

    /// Removes packs from the remote that were there before `before` and that no snapshot there or here needs. Only one
    /// daemon may do this on a remote, and only while no other takes snapshots there.
    ///
    /// # Errors
    /// [`RemoteError`]; also when any record cannot be read, and then nothing is removed.
    pub async fn collect(&self, before: SystemTime) -> Result<RemoteCollected, RemoteError> {
        self.shared.collect_remote(before, false).await
    }

    /// What [`collect`](Self::collect) would remove.
    ///
    /// # Errors
    /// As `collect`.
    pub async fn collectable(&self, before: SystemTime) -> Result<RemoteCollected, RemoteError> {
        self.shared.collect_remote(before, true).await
    }

    fn fetch(&self, id: PackId) -> Fetch {
        let mut fetches = self.shared.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = fetches.get(&id) {
            return fetch.clone();
        }
        let shared = Arc::clone(&self.shared);
        // A task of its own: it ends even if everybody who waits for it goes away.
        let task = tokio::spawn(async move {
            let fetched = shared.fetch_in_turn(id).await;
            shared.fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            fetched
        });
        let ended = |reason: tokio::task::JoinError| RemoteError::Config { reason: reason.to_string() };
        let fetch: Fetch = task.map(move |ended_with| ended_with.unwrap_or_else(|e| Err(ended(e)))).boxed().shared();
        fetches.insert(id, fetch.clone());
        fetch
    }
}

impl Shared {
    async fn fetch_in_turn(&self, id: PackId) -> Result<(), RemoteError> {
        let pins = self.packs.pin([id]);
        // Never closed.
        let _turn = self.fetching.acquire().await;
        let (packs, wanted) = (self.packs.clone(), id);
        // It may have come since the caller looked.
        let fetched =
            if blocking(move || packs.len(&wanted)).await?.is_some() { Ok(()) } else { self.fetch_pack(id).await };
        drop(pins);
        fetched
    }
}
