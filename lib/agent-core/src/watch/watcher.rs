//! One watcher: from notices to queued events.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::error::WatchError;
use super::event::{Event, Kind};
use super::inotify::Inotify;
use super::queue::{Budget, Queue};
use super::tree::Tree;
use crate::filesystem::entry;
use crate::identity::{Names, UserDatabase};

/// Reads of one drain: more than the kernel's queue holds, and an end even when changes never cease.
const MAX_READS: usize = 512;
/// Pause between two drains, in which the kernel joins equal notices: constant writes must not cost constant work.
const PAUSE: Duration = Duration::from_millis(5);

/// What is to be watched and told.
#[derive(Clone, Debug)]
pub(crate) struct WatchSpec {
    pub(crate) root: PathBuf,
    /// Also everything below.
    pub(crate) recursive: bool,
    /// Describe the entry of each event after which there is one.
    pub(crate) entries: bool,
    /// Also where changes by others do not show.
    pub(crate) network: bool,
}

#[derive(Debug)]
pub(super) struct Watcher {
    spec: WatchSpec,
    users: UserDatabase,
    /// `None` after a failure. Locked for as long as a drain takes, so on threads that may block only.
    tree: Mutex<Option<Tree>>,
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Watcher {
    /// Begins to watch. Blocks.
    pub(super) fn new(
        spec: WatchSpec,
        users: UserDatabase,
        budget: Arc<Budget>,
    ) -> Result<(Self, Arc<Inotify>), WatchError> {
        let tree = Tree::new(spec.clone())?;
        let inotify = Arc::clone(tree.inotify());
        let queue = Mutex::new(Queue::new(budget));
        Ok((Self { spec, users, tree: Mutex::new(Some(tree)), queue, changed: Notify::new() }, inotify))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues everything that has happened until now. False when nothing will follow. Blocks.
    fn drain(&self, tree: &mut Option<Tree>) -> bool {
        let Some(watched) = tree else { return false };
        let mut names = None;
        let mut tell = |path: &Path, kind| self.queue().push(self.event(path, kind, &mut names));
        let drained = (0..MAX_READS).try_for_each(|_| match watched.read(&mut tell) {
            Ok(true) => Ok(()),
            Ok(false) => Err(None),
            Err(error) => Err(Some(error)),
        });
        if let Err(Some(error)) = drained {
            // With it go the kernel's watches.
            *tree = None;
            self.queue().fail(error);
        }
        self.changed.notify_one();
        tree.is_some()
    }

    fn event(&self, path: &Path, kind: Kind, names: &mut Option<Names>) -> Event {
        let described = self.spec.entries && kind.leaves_entry();
        let entry = described.then(|| {
            let names = names.get_or_insert_with(|| self.users.names());
            // Gone again is not an error.
            entry(&self.spec.root.join(path), names).ok().map(Box::new)
        });
        Event { name: path.to_string_lossy().into_owned(), kind, entry: entry.flatten() }
    }

    fn lock_tree(&self) -> MutexGuard<'_, Option<Tree>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All events of what has happened until now. Blocks.
    pub(super) fn fetch(&self) -> Result<Vec<Event>, Arc<WatchError>> {
        let mut tree = self.lock_tree();
        self.drain(&mut tree);
        self.queue().take()
    }

    /// The next event. One caller at a time.
    pub(super) async fn next(&self) -> Result<Event, Arc<WatchError>> {
        loop {
            if let Some(event) = self.queue().pop()? {
                return Ok(event);
            }
            self.changed.notified().await;
        }
    }

    /// Drains whenever something happens, until it fails: the kernel's own queue is small.
    pub(super) async fn follow(self: Arc<Self>, inotify: AsyncFd<Arc<Inotify>>) {
        loop {
            let Ok(mut ready) = inotify.readable().await else { return };
            // Before the drain, so that what happens during it counts again.
            ready.clear_ready();
            let watcher = Arc::clone(&self);
            let drained = tokio::task::spawn_blocking(move || watcher.drain(&mut watcher.lock_tree())).await;
            if !drained.unwrap_or(false) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
