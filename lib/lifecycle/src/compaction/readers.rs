//! Who reads which snapshot, so that what a reader may still look for is not taken away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::SnapshotId;

/// Removes what only the readers of a former version of a snapshot needed.
type Clear = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Reading {
    readers: usize,
    then: Vec<Clear>,
}

/// The readers of all snapshots. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Readers {
    reading: Arc<Mutex<BTreeMap<SnapshotId, Reading>>>,
}

/// A snapshot is read for as long as this is held. To be had before its manifest is opened.
#[must_use = "a snapshot may change as soon as this is dropped"]
pub(crate) struct Held {
    readers: Readers,
    id: SnapshotId,
}

impl Readers {
    pub(crate) fn hold(&self, id: &SnapshotId) -> Held {
        self.lock().entry(id.clone()).or_default().readers += 1;
        Held { readers: self.clone(), id: id.clone() }
    }

    /// Does `clear` when all have finished who read the snapshot now: at once if nobody does.
    pub(super) fn afterwards(&self, id: &SnapshotId, clear: impl FnOnce() + Send + 'static) {
        if let Some(reading) = self.lock().get_mut(id) {
            reading.then.push(Box::new(clear));
            return;
        }
        clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SnapshotId, Reading>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut reading = self.readers.lock();
        let Some(mine) = reading.get_mut(&self.id) else { return };
        mine.readers -= 1;
        if mine.readers == 0 {
            let then = reading.remove(&self.id).map(|last| last.then).unwrap_or_default();
            // Not under the lock: they read and write files.
            drop(reading);
            then.into_iter().for_each(|clear| clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_a_reader_may_look_for_stays_until_the_last_one_has_finished() {
        let readers = Readers::default();
        let [id, other] = [SnapshotId::random().unwrap(), SnapshotId::random().unwrap()];
        let cleared = Arc::new(AtomicUsize::new(0));
        let clear = || {
            let cleared = Arc::clone(&cleared);
            move || {
                cleared.fetch_add(1, Ordering::Relaxed);
            }
        };
        let _elsewhere = readers.hold(&other);
        let (first, second) = (readers.hold(&id), readers.hold(&id));
        readers.afterwards(&id, clear());
        drop(first);
        assert_eq!(cleared.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(cleared.load(Ordering::Relaxed), 1);
        readers.afterwards(&id, clear());
        assert_eq!(cleared.load(Ordering::Relaxed), 2, "nobody reads it");
    }
}
