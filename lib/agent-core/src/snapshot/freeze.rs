//! `POST /freeze` and `POST /unfreeze`: stopping user processes without a prepare.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::freezer;
use super::phase::{Hold, Work};
use super::steps::{Done, Steps};
use crate::agent::{Agent, Guest};

/// How long a freeze may take when the caller does not say.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// Longest wait that a caller gets.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FreezeError {
    #[error("a snapshot is in progress: abort it, or wait for the restore")]
    Busy,
    #[error("the freeze was called off")]
    CalledOff,
    #[error("not all user processes could be stopped in time; they run on")]
    NotStopped,
}

/// Freezes user processes until they are thawed by `/unfreeze`, by `/init`, by what ends a prepare, or by the watchdog. Meanwhile no
/// user request begins: a process that is started into a frozen cgroup would never get to run its program. Fine when frozen already.
/// All or nothing when it returns; the caller must not drop it in between.
pub(super) async fn freeze(agent: &Arc<Agent>, wait: Duration) -> Result<(), FreezeError> {
    let Some(guest) = &agent.guest else { return Ok(()) };
    let Some(hold) = agent.snapshot.begin(Work::Freeze) else {
        return if agent.snapshot.is_frozen() { Ok(()) } else { Err(FreezeError::Busy) };
    };
    let outcome = tokio::select! {
        biased;
        () = agent.snapshot.cancelled() => Err(FreezeError::CalledOff),
        outcome = stop(agent, guest, hold, wait.min(MAX_WAIT)) => outcome,
    };
    match outcome {
        Ok(hold) => {
            agent.snapshot.settle(agent, Work::Freeze, hold, agent.durations.frozen);
            Ok(())
        }
        Err(error) => {
            agent.snapshot.gave_up();
            Err(error)
        }
    }
}

async fn stop(agent: &Agent, guest: &Guest, mut hold: Hold, wait: Duration) -> Result<Hold, FreezeError> {
    let mut steps = Steps::new(wait);
    let quiet = async { Ok((agent.snapshot.activity.quiet().await, Done::default())) };
    hold.quiet = Some(steps.run("exclude", wait, quiet).await.ok_or(FreezeError::NotStopped)?);
    freeze_cgroups(&mut steps, wait, guest, &mut hold).await;
    if hold.frozen.is_some() { Ok(hold) } else { Err(FreezeError::NotStopped) }
}

/// The step that freezes, of a freeze and of a prepare. What could not be frozen as a whole is thawed again.
pub(super) async fn freeze_cgroups(steps: &mut Steps, limit: Duration, guest: &Guest, hold: &mut Hold) {
    // Set before the attempt, so that a half-done freeze is undone by whoever drops the hold.
    hold.frozen = Some(guest.cgroups.clone());
    let step = async { freezer::freeze(&guest.cgroups).await.map(|()| ((), Done::default())) };
    if steps.run("freeze", limit, step).await.is_none() {
        hold.thaw();
    }
}
