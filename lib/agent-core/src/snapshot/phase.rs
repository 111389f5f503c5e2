//! Where the agent stands with respect to a snapshot, and the only ways from one state to the next:
//!
//! ```text
//! running → freezing → frozen ─┐
//!    │                   │     ├→ ending → running
//!    └──→ preparing ←────┘     │
//!             └────→ prepared ─┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dormouse_agent_proto::control::PrepareReport;
use tokio::sync::watch;

use super::activity::{Activity, Quiet};
use super::prepare::PrepareError;
use super::record::Record;
use super::{freezer, restore};
use crate::agent::Agent;
use crate::cgroups::Cgroups;
use crate::offload::Offload;

/// What takes time, and can be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Freeze,
    Prepare,
}
use crate::ports::Ports;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Working {
        work: Work,
        cancelled: bool,
    },
    Frozen,
    Prepared,
    /// Going back to running: what must be right before user processes go on is being put right.
    Ending,
}

impl Phase {
    /// The work that led or leads here.
    fn work(self) -> Option<Work> {
        match self {
            Self::Working { work, .. } => Some(work),
            Self::Frozen => Some(Work::Freeze),
            Self::Prepared => Some(Work::Prepare),
            Self::Running | Self::Ending => None,
        }
    }
}

/// What a frozen or prepared agent holds, let go by dropping. Frozen processes thaw first, then work may begin again
/// and ports are looked for again.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pub(super) frozen: Option<Cgroups>,
    pub(super) quiet: Option<Quiet>,
    /// Stopped; started anew at the end.
    pub(super) ports: Option<Arc<Ports>>,
}

impl Hold {
    /// Thaws, and stays quiet.
    pub(super) fn thaw(&mut self) {
        if let Some(Err(error)) = self.frozen.take().map(|cgroups| freezer::thaw(&cgroups)) {
            crate::boot::log(&format!("cannot thaw user processes: {error}"));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.thaw();
        if let Some(ports) = &self.ports {
            ports.forget_captured();
            ports.start();
        }
    }
}

#[derive(Debug)]
struct State {
    hold: Option<Hold>,
    generation: u64,
    /// Counts freezes and prepares, so that a timer knows its own.
    round: u64,
    /// The round in which `/health` was asked first while prepared.
    asked: Option<u64>,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) activity: Activity,
    pub(super) calls: Offload,
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
    record: Mutex<Record>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            activity: Activity::default(),
            calls: Offload::default(),
            phase: watch::Sender::new(Phase::Running),
            state: Mutex::new(State { hold: None, generation: 0, round: 0, asked: None }),
            record: Mutex::default(),
        }
    }
}

impl Snapshot {
    /// The lock for work that must not run across a snapshot.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    pub(super) fn is_frozen(&self) -> bool {
        *self.phase.borrow() == Phase::Frozen
    }

    /// How preparations went.
    pub(crate) fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, result: Result<&PrepareReport, PrepareError>, took: Duration) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).note(result, took);
    }

    /// Number of the life that a snapshot would end; 0 until `/init` or a restore begins the first.
    pub(crate) fn generation(&self) -> u64 {
        self.with(|state| state.generation)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Running → freezing or preparing, or frozen → preparing; with what was held until now. `None` in any other state.
    pub(super) fn begin(&self, work: Work) -> Option<Hold> {
        let begun = self.phase.send_if_modified(|phase| {
            let fits = *phase == Phase::Running || (*phase == Phase::Frozen && work == Work::Prepare);
            if fits {
                *phase = Phase::Working { work, cancelled: false };
            }
            fits
        });
        begun.then(|| {
            self.with(|state| {
                state.round += 1;
                state.hold.take().unwrap_or_default()
            })
        })
    }

    /// Ends when somebody wants the work under way to be given up.
    pub(super) async fn cancelled(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Working { cancelled: true, .. })).await;
    }

    /// Freezing → frozen or preparing → prepared, undone by itself when nothing ends that state within `watchdog`.
    pub(super) fn settle(&self, agent: &Arc<Agent>, work: Work, hold: Hold, watchdog: Duration) {
        let round = self.with(|state| {
            state.hold = Some(hold);
            state.round
        });
        self.phase.send_replace(if work == Work::Freeze { Phase::Frozen } else { Phase::Prepared });
        let agent = Arc::clone(agent);
        tokio::spawn(async move {
            tokio::time::sleep(watchdog).await;
            restore::watchdog(&agent, round).await;
        });
    }

    /// Freezing or preparing → running, when the work gave up. Everything held must have been let go.
    pub(super) fn gave_up(&self) {
        self.phase.send_replace(Phase::Running);
    }

    /// The round that `/health` is asked in for the first time while prepared.
    pub(super) fn first_asked(&self) -> Option<u64> {
        if *self.phase.borrow() != Phase::Prepared {
            return None;
        }
        self.with(|state| {
            let first = state.asked != Some(state.round);
            state.asked = Some(state.round);
            first.then_some(state.round)
        })
    }

    /// From frozen or prepared to ending, if that is still the one of `round`.
    pub(super) fn end_round(&self, round: u64) -> Option<Ending<'_>> {
        let ended = self.phase.send_if_modified(|phase| {
            let ends = matches!(phase, Phase::Frozen | Phase::Prepared) && self.with(|state| state.round) == round;
            if ends {
                *phase = Phase::Ending;
            }
            ends
        });
        ended.then(|| self.ending())
    }

    /// From whatever came of `works` to ending: work under way is told to give up and waited for, as is an ending under way. `None` when
    /// there is nothing of that kind to end, in particular when running.
    pub(super) async fn end(&self, works: &[Work]) -> Option<Ending<'_>> {
        loop {
            let mut seen = Phase::Running;
            self.phase.send_if_modified(|phase| {
                seen = *phase;
                *phase = match *phase {
                    Phase::Working { work, .. } if works.contains(&work) => Phase::Working { work, cancelled: true },
                    Phase::Frozen | Phase::Prepared if seen.work().is_some_and(|w| works.contains(&w)) => Phase::Ending,
                    other => other,
                };
                *phase != seen
            });
            match seen {
                Phase::Ending => {}
                other if !other.work().is_some_and(|work| works.contains(&work)) => return None,
                Phase::Working { .. } => {}
                _ => return Some(self.ending()),
            }
            let mut phase = self.phase.subscribe();
            // The sender lives in `self`, so the wait cannot fail.
            let _ = phase.wait_for(|phase| !matches!(phase, Phase::Working { .. } | Phase::Ending)).await;
        }
    }

    fn ending(&self) -> Ending<'_> {
        Ending { snapshot: self, hold: self.with(|state| state.hold.take()) }
    }

    /// Notes that a life begins: number `given` by the host, or the next one. True when it is a new one, and not one that has begun
    /// already.
    pub(super) fn begin_life(&self, given: Option<u64>, next_if_not_given: bool) -> bool {
        self.with(|state| {
            let counted = state.generation.saturating_add(u64::from(next_if_not_given));
            let next = given.unwrap_or(counted);
            let new = next > state.generation;
            state.generation = state.generation.max(next);
            new
        })
    }
}

/// The way back to running, which is complete when this is dropped: user processes thaw, then work may begin again.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    snapshot: &'a Snapshot,
    hold: Option<Hold>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        drop(self.hold.take());
        self.snapshot.phase.send_replace(Phase::Running);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Work; 2] = [Work::Freeze, Work::Prepare];

    fn prepared() -> Snapshot {
        let snapshot = Snapshot::default();
        let hold = snapshot.begin(Work::Prepare).unwrap();
        snapshot.with(|state| state.hold = Some(hold));
        snapshot.phase.send_replace(Phase::Prepared);
        snapshot
    }

    #[tokio::test]
    async fn while_one_ends_nothing_begins_and_a_second_end_waits_for_it() {
        let snapshot = prepared();
        let ending = snapshot.end(&BOTH).await.unwrap();
        assert!(snapshot.begin(Work::Prepare).is_none() && snapshot.begin(Work::Freeze).is_none());
        assert!(!snapshot.is_running());
        let mut second = std::pin::pin!(snapshot.end(&BOTH));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(ending);
        assert!(second.await.is_none(), "nothing is left to end");
        assert!(snapshot.is_running());
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_ended() {
        let snapshot = prepared();
        assert!(snapshot.end(&[Work::Freeze]).await.is_none());
        assert!(!snapshot.is_running());
        assert!(snapshot.end(&[Work::Prepare]).await.is_some());
        assert!(snapshot.end(&BOTH).await.is_none(), "running");
    }

    #[tokio::test]
    async fn a_timer_ends_only_its_own_round() {
        let snapshot = prepared();
        let old = snapshot.with(|state| state.round);
        drop(snapshot.end(&BOTH).await);
        let hold = snapshot.begin(Work::Prepare).unwrap();
        assert!(snapshot.end_round(old).is_none(), "preparing");
        snapshot.with(|state| state.hold = Some(hold));
        snapshot.phase.send_replace(Phase::Prepared);
        assert!(snapshot.end_round(old).is_none(), "another one");
        assert!(snapshot.end_round(old + 1).is_some());
    }

    #[test]
    fn a_life_begins_once() {
        let snapshot = Snapshot::default();
        assert!(snapshot.begin_life(Some(1), false), "the first");
        assert!(!snapshot.begin_life(Some(1), true), "again");
        assert!(!snapshot.begin_life(None, false) && snapshot.begin_life(None, true));
        assert!(!snapshot.begin_life(Some(1), true), "an earlier one");
        assert_eq!(snapshot.generation(), 2);
    }

    #[test]
    fn the_first_question_after_a_prepare_is_told_from_the_others() {
        let snapshot = Snapshot::default();
        assert_eq!(snapshot.first_asked(), None, "running");
        let snapshot = prepared();
        assert!(snapshot.first_asked().is_some());
        assert_eq!(snapshot.first_asked(), None);
    }
}
