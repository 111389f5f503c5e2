//! Snapshots that are to be looked at again after a while. Plain data: time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::SnapshotId;

/// Pause after the first failure. It doubles with every further one.
const FIRST: Duration = Duration::from_secs(60);
/// Longest pause.
const MOST: Duration = Duration::from_secs(60 * 60);

/// Which snapshots, and when.
#[derive(Debug, Default)]
pub(super) struct Later {
    waiting: BTreeMap<SnapshotId, Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// In a row.
    failures: u32,
    /// None while it is being tried.
    due: Option<Instant>,
}

impl Later {
    /// It failed for a reason that may pass. Returns the pause before it is due again.
    pub(super) fn failed(&mut self, id: &SnapshotId, now: Instant) -> Duration {
        let wait = self.waiting.entry(id.clone()).or_insert(Wait { failures: 0, due: None });
        let pause = FIRST.saturating_mul(1u32.checked_shl(wait.failures).unwrap_or(u32::MAX)).min(MOST);
        wait.failures = wait.failures.saturating_add(1);
        wait.due = now.checked_add(pause);
        pause
    }

    /// There is nothing to be done again.
    pub(super) fn ended(&mut self, id: &SnapshotId) {
        self.waiting.remove(id);
    }

    /// When one is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|wait| wait.due).min()
    }

    /// One that is due at `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<SnapshotId> {
        let due = |wait: &Wait| wait.due.is_some_and(|due| due <= now);
        let (id, wait) = self.waiting.iter_mut().filter(|(_, wait)| due(wait)).min_by_key(|(_, wait)| wait.due)?;
        wait.due = None;
        Some(id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let (mut later, id, now) = (Later::default(), SnapshotId::random().unwrap(), Instant::now());
        let pauses: Vec<_> = (0..9).map(|_| later.failed(&id, now)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60].map(minutes));
        later.waiting.get_mut(&id).unwrap().failures = u32::MAX;
        assert_eq!(later.failed(&id, now), minutes(60));
        later.ended(&id);
        assert_eq!((later.next(), later.take(now + minutes(600))), (None, None));
        assert_eq!(later.failed(&id, now), minutes(1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_due_in_its_turn_and_not_before_and_not_twice() {
        let (mut later, now) = (Later::default(), Instant::now());
        let [one, two] = [SnapshotId::random().unwrap(), SnapshotId::random().unwrap()];
        later.failed(&one, now);
        later.failed(&one, now);
        later.failed(&two, now);
        assert_eq!((later.next(), later.take(now)), (Some(now + minutes(1)), None));
        assert_eq!(later.take(now + minutes(3)), Some(two));
        assert_eq!(later.next(), Some(now + minutes(2)));
        assert_eq!(later.take(now + minutes(3)), Some(one));
        assert_eq!((later.next(), later.take(now + minutes(600))), (None, None));
    }
}
