//! Where the agent stands with respect to a snapshot, and the only ways from one state to the next:
//! running → preparing → prepared → running.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::activity::{Activity, Quiet};
use super::freezer;
use crate::agent::Agent;
use crate::cgroups::Cgroups;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Preparing { cancelled: bool },
    Prepared,
}

/// What a prepared agent holds, let go by dropping. Frozen processes thaw first, then work may begin again.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pub(super) frozen: Option<Cgroups>,
    pub(super) quiet: Option<Quiet>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.frozen.as_ref().map(freezer::thaw) {
            crate::boot::log(&format!("cannot thaw user processes: {error}"));
        }
    }
}

#[derive(Debug)]
struct State {
    hold: Option<Hold>,
    generation: u64,
    /// Counts prepares, so that a watchdog knows its own.
    round: u64,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) activity: Activity,
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
    watchdog: Duration,
}

impl Snapshot {
    pub(crate) fn new(watchdog: Duration) -> Self {
        Self {
            activity: Activity::default(),
            phase: watch::Sender::new(Phase::Running),
            state: Mutex::new(State { hold: None, generation: 1, round: 0 }),
            watchdog,
        }
    }

    /// The lock for work that must not run across a snapshot.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    pub(super) fn generation(&self) -> u64 {
        self.with(|state| state.generation)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Running → preparing. False when a snapshot is under way already.
    pub(super) fn start_preparing(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let idle = *phase == Phase::Running;
            if idle {
                *phase = Phase::Preparing { cancelled: false };
            }
            idle
        })
    }

    /// Ends when somebody wants the prepare under way to be given up.
    pub(super) async fn cancelled(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Preparing { cancelled: true }).await;
    }

    /// Preparing → prepared, and sets the watchdog.
    pub(super) fn prepared(&self, agent: &Arc<Agent>, hold: Hold) {
        let round = self.with(|state| {
            state.hold = Some(hold);
            state.round += 1;
            state.round
        });
        self.phase.send_replace(Phase::Prepared);
        let (agent, after) = (Arc::clone(agent), self.watchdog);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if agent.snapshot.with(|state| state.round) == round && agent.snapshot.undo() {
                crate::boot::log("no snapshot followed its preparation, undone");
            }
        });
    }

    /// Preparing → running, when prepare gave up.
    pub(super) fn gave_up(&self) {
        self.phase.send_replace(Phase::Running);
    }

    /// Prepared → running. False when it was not prepared.
    fn undo(&self) -> bool {
        let hold = self.with(|state| state.hold.take());
        let was_prepared = hold.is_some();
        drop(hold);
        if was_prepared {
            self.phase.send_replace(Phase::Running);
        }
        was_prepared
    }

    /// From any state to running: a prepare under way is told to give up and waited for. True when a prepare was complete.
    pub(super) async fn leave(&self) -> bool {
        loop {
            self.phase.send_if_modified(|phase| {
                let preparing = *phase == Phase::Preparing { cancelled: false };
                if preparing {
                    *phase = Phase::Preparing { cancelled: true };
                }
                preparing
            });
            let mut phase = self.phase.subscribe();
            // The sender lives in `self`, so the wait cannot fail.
            let _ = phase.wait_for(|phase| !matches!(phase, Phase::Preparing { .. })).await;
            drop(phase);
            let was_prepared = self.undo();
            if was_prepared || self.is_running() {
                return was_prepared;
            }
        }
    }

    /// Works off a restore, once per generation. True when this was the first `/init` after a snapshot. Without a number from the
    /// host the agent counts by itself.
    pub(crate) async fn restore(&self, generation: Option<u64>) -> bool {
        let was_prepared = self.leave().await;
        self.with(|state| {
            let current = state.generation;
            let next = generation.unwrap_or(if was_prepared { current.saturating_add(1) } else { current });
            state.generation = current.max(next);
            was_prepared && next > current
        })
    }
}
