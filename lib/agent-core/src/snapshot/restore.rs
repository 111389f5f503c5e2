//! The ways out of a prepare: `/init`, abort, the watchdog, and `/health` as a safety net.
//!
//! Whoever ends a prepare cannot know whether the VM was stopped meanwhile, or which of several copies of it this one is. So no way
//! leads back to running user processes before the clock was looked at and the random generator has a new key: from the host's
//! bytes when `/init` comes, else from what hardware gives.

use std::sync::Arc;

use super::phase::{Ending, Work};
use crate::agent::Agent;
use crate::init::recover_alone;
use crate::server::ConnectionId;

/// Takes a prepared, preparing or frozen agent on its way back to running, for `/init`.
pub(crate) async fn begin_restore(agent: &Agent) -> Option<Ending<'_>> {
    agent.snapshot.end(&[Work::Freeze, Work::Prepare]).await
}

/// What comes last of a restore: a new life begins, user processes run on, work may begin again. Connections from before go in a new
/// life, before anything runs that could use them.
pub(crate) fn finish_restore(
    agent: &Agent,
    ending: Option<Ending<'_>>,
    generation: Option<u64>,
    caller: Option<ConnectionId>,
) {
    if agent.snapshot.begin_life(generation, ending.is_some()) {
        end_captured(agent, caller);
        agent.connections.abort_all_but(caller);
    }
    drop(ending);
}

/// Destroys the connections that the snapshot caught, except the caller's.
fn end_captured(agent: &Agent, caller: Option<ConnectionId>) {
    let kept = caller.and_then(|caller| agent.connections.peer(caller));
    let (noted, failed) = agent.ports.destroy_captured(kept);
    if failed > 0 {
        crate::boot::log(&format!("{failed} of {noted} connections from before the snapshot were not destroyed"));
    }
}

/// Undoes the prepare of `round`, if nothing has ended it: most likely no snapshot followed.
pub(super) async fn watchdog(agent: &Arc<Agent>, round: u64) {
    if let Some(ending) = agent.snapshot.end_round(round) {
        recover_alone(agent).await;
        drop(ending);
        crate::boot::log("nothing ended a preparation or freeze in time, undone");
    }
}

/// Undoes a prepare, complete or under way.
pub(super) async fn abort(agent: &Agent) {
    if let Some(ending) = agent.snapshot.end(&[Work::Prepare]).await {
        recover_alone(agent).await;
        drop(ending);
    }
}

/// Undoes a freeze, complete or under way. False when there is a prepare instead.
pub(super) async fn unfreeze(agent: &Agent) -> bool {
    match agent.snapshot.end(&[Work::Freeze]).await {
        Some(ending) => {
            recover_alone(agent).await;
            drop(ending);
            true
        }
        None => agent.snapshot.is_running(),
    }
}

/// The safety net: somebody asks for the health of a prepared agent, so this is likely a restored guest, and its host ought to send
/// `/init`. If it does not in time, the agent restores itself.
pub(super) fn health_was_asked(agent: &Arc<Agent>, caller: Option<ConnectionId>) {
    let Some(round) = agent.snapshot.first_asked() else { return };
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        tokio::time::sleep(agent.durations.init_grace).await;
        if let Some(ending) = agent.snapshot.end_round(round) {
            recover_alone(&agent).await;
            finish_restore(&agent, Some(ending), None, caller);
            crate::boot::log("health was asked for and no init came, restored without it");
        }
    });
}
