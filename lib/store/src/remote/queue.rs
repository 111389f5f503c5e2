//! What is still to do on the remote. Plain data: time is passed in, and nothing here is durable, because it is made anew
//! from the snapshots on this machine and the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::snapshot::LocalSnapshot;
use crate::SnapshotName;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Take it to the remote.
    Upload(LocalSnapshot),
    /// Take it away from there.
    Remove,
}

/// How far something is that is to be done on the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Others come first.
    Waiting,
    /// It is being done.
    Working,
    /// It failed, and is tried again later.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Something that is to be done on the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Whether it is to be removed there, and not to be taken there.
    pub removal: bool,
    /// How far it is.
    pub state: JobState,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    state: JobState,
    /// Who comes first.
    turn: u64,
    not_before: Option<Instant>,
}

/// One job per snapshot: a newer one takes the place of an older one.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: BTreeMap<SnapshotName, Entry>,
    turns: u64,
    /// How often somebody asked for the folder of packs to be brought within its bound, and how often that was done.
    trims: (u64, u64),
}

/// Names a job that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) snapshot: SnapshotName,
    turn: u64,
}

impl Queue {
    pub(super) fn push(&mut self, snapshot: SnapshotName, job: Job) {
        self.turns += 1;
        let entry = Entry { job, state: JobState::Waiting, turn: self.turns, not_before: None };
        self.jobs.insert(snapshot, entry);
    }

    /// Something to do, but not before `due`.
    pub(super) fn push_later(&mut self, snapshot: SnapshotName, job: Job, reason: String, due: Option<Instant>) {
        self.turns += 1;
        let entry = Entry { job, state: JobState::Failed { reason }, turn: self.turns, not_before: due };
        self.jobs.insert(snapshot, entry);
    }

    /// Nothing is to be done for a snapshot any more. Whether something was being done.
    pub(super) fn cancel(&mut self, snapshot: &SnapshotName) -> bool {
        self.jobs.remove(snapshot).is_some_and(|entry| entry.state == JobState::Working)
    }

    /// The next thing to do at `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Ticket, Job)> {
        let due = |entry: &Entry| {
            entry.state != JobState::Working && entry.not_before.is_none_or(|not_before| not_before <= now)
        };
        let (snapshot, entry) = self.jobs.iter_mut().filter(|(_, e)| due(e)).min_by_key(|(_, e)| e.turn)?;
        entry.state = JobState::Working;
        Some((Ticket { snapshot: snapshot.clone(), turn: entry.turn }, entry.job.clone()))
    }

    /// When something is due next, if nothing is now.
    pub(super) fn due(&self) -> Option<Instant> {
        self.jobs.values().filter(|entry| entry.state != JobState::Working).filter_map(|entry| entry.not_before).min()
    }

    /// Whether a job that was taken is still what is to be done.
    pub(super) fn is_current(&self, ticket: &Ticket) -> bool {
        self.jobs.get(&ticket.snapshot).is_some_and(|entry| entry.turn == ticket.turn)
    }

    /// A job ended; with `failed`, it is due again after `pause`.
    pub(super) fn finish(&mut self, ticket: &Ticket, failed: Option<String>, now: Instant, pause: Duration) {
        if !self.is_current(ticket) {
            return;
        }
        let Some(reason) = failed else {
            self.jobs.remove(&ticket.snapshot);
            return;
        };
        self.turns += 1;
        if let Some(entry) = self.jobs.get_mut(&ticket.snapshot) {
            entry.state = JobState::Failed { reason };
            entry.turn = self.turns;
            entry.not_before = now.checked_add(pause);
        }
    }

    /// The folder of packs may be over its bound.
    pub(super) fn want_trim(&mut self) {
        self.trims.0 += 1;
    }

    /// Whether it is to be looked after, and what to say to [`trimmed`](Self::trimmed) then.
    pub(super) fn trim(&self) -> Option<u64> {
        let (wanted, done) = self.trims;
        (wanted > done).then_some(wanted)
    }

    /// It was looked after, for all that asked until `asked`.
    pub(super) fn trimmed(&mut self, asked: u64) {
        self.trims.1 = asked;
    }

    /// How far the upload of a snapshot is; None when nothing is to be done for it.
    pub(super) fn upload(&self, snapshot: &SnapshotName) -> Option<JobState> {
        let entry = self.jobs.get(snapshot)?;
        matches!(entry.job, Job::Upload(_)).then(|| entry.state.clone())
    }

    /// Whether nothing waits and nothing is being done.
    pub(super) fn is_settled(&self) -> bool {
        self.trim().is_none() && self.jobs.values().all(|entry| matches!(entry.state, JobState::Failed { .. }))
    }

    pub(super) fn status(&self) -> Vec<JobStatus> {
        let status = |(snapshot, entry): (&SnapshotName, &Entry)| JobStatus {
            snapshot: snapshot.clone(),
            removal: entry.job == Job::Remove,
            state: entry.state.clone(),
        };
        self.jobs.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SnapshotName {
        text.try_into().unwrap()
    }

    fn upload(text: &str) -> Job {
        Job::Upload(LocalSnapshot { name: name(text), dir: text.into(), files: Vec::new(), packs: Default::default() })
    }

    const PAUSE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn jobs_are_done_in_order_and_a_failed_one_waits_behind_the_others() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for text in ["b", "a"] {
            queue.push(name(text), upload(text));
        }
        let (first, job) = queue.take(now).unwrap();
        assert_eq!(job, upload("b"));
        queue.finish(&first, Some("no".into()), now, PAUSE);
        // Also when both are due.
        let (second, job) = queue.take(now + PAUSE).unwrap();
        assert_eq!(job, upload("a"));
        assert_eq!(queue.take(now), None, "not due yet");
        assert!(!queue.is_settled());
        queue.finish(&second, None, now, PAUSE);
        assert!(queue.is_settled());
        let failed = JobState::Failed { reason: "no".into() };
        assert_eq!(queue.status(), [JobStatus { snapshot: name("b"), removal: false, state: failed }]);
        assert_eq!(queue.due(), Some(now + PAUSE));
        assert_eq!(queue.take(now + PAUSE).unwrap().1, upload("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_for_later_is_not_done_before() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push_later(name("a"), upload("a"), "lost".into(), Some(now + PAUSE));
        assert!(queue.is_settled());
        assert_eq!((queue.take(now), queue.due()), (None, Some(now + PAUSE)));
        assert_eq!(queue.take(now + PAUSE).unwrap().1, upload("a"));
    }

    #[test]
    fn who_asks_for_room_while_room_is_made_is_heard() {
        let mut queue = Queue::default();
        queue.want_trim();
        let asked = queue.trim().unwrap();
        queue.want_trim();
        queue.trimmed(asked);
        assert!(!queue.is_settled());
        let asked = queue.trim().unwrap();
        queue.trimmed(asked);
        assert!(queue.trim().is_none() && queue.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_job_takes_the_place_of_one_that_is_being_done() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push(name("a"), upload("a"));
        let (old, _) = queue.take(now).unwrap();
        queue.push(name("a"), Job::Remove);
        assert!(!queue.is_current(&old));
        queue.finish(&old, None, now, PAUSE);
        let (new, job) = queue.take(now).unwrap();
        assert_eq!(job, Job::Remove, "the end of the old one does not end the new one");
        queue.finish(&new, None, now, PAUSE);
        assert!(queue.status().is_empty());
    }
}
