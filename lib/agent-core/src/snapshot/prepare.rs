//! The steps of a prepare, in their order.
//!
//! Flushing comes before the cache drop, which frees clean pages only, and before the trim, which tells only blocks that are
//! committed as free. Work is shut out first, so that no step undoes an earlier one. Only that is essential: whatever else is not
//! done costs bytes or warmth, never content.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dormouse_agent_proto::control::{CachePolicy, PrepareReport, PrepareRequest};
use thiserror::Error;
use tokio::time::Instant;

use super::facts::{Facts, memory};
use super::freeze::freeze_cgroups;
use super::per_cpu_lists;
use super::phase::{Hold, Work};
use super::steps::{Done, Steps};
use crate::agent::{Agent, Guest};
use crate::offload::Offload;
use crate::server::ConnectionId;

/// Longest budget that a caller gets.
const MAX_BUDGET: Duration = Duration::from_secs(300);
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(100);
const LONGEST_WATCHDOG: Duration = Duration::from_secs(600);
const QUIET_LIMIT: Duration = Duration::from_secs(2);
const CONNECTIONS_LIMIT: Duration = Duration::from_millis(250);
const PORTS_LIMIT: Duration = Duration::from_millis(500);
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Kept back for what the report tells about the kernel, since without it the host cannot know which pages are free.
const FACTS_LIMIT: Duration = Duration::from_millis(500);
/// How often open connections are counted while they close.
const COUNT_EVERY: Duration = Duration::from_millis(2);

/// What each step that waits for a disk may use of the budget, so that one that hangs leaves something to the others.
#[derive(Clone, Copy, Debug)]
struct Limits {
    sync: Duration,
    cache: Duration,
    trim: Duration,
}

impl Limits {
    fn of(budget: Duration) -> Self {
        Self { sync: budget / 2, cache: budget / 4, trim: budget / 4 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PrepareError {
    #[error(
        "a snapshot is already being prepared, or is prepared, or is being restored: abort it, or wait for the restore"
    )]
    Busy,
    #[error("the preparation was aborted")]
    Aborted,
    #[error("work that a snapshot must not cut in two did not end in time, try again")]
    NotQuiet,
}

/// Prepares. Complete or undone when it returns; the caller must not drop it in between.
pub(super) async fn prepare(
    agent: &Arc<Agent>,
    request: PrepareRequest,
    caller: Option<ConnectionId>,
) -> Result<PrepareReport, PrepareError> {
    let begin = Instant::now();
    let result = try_prepare(agent, request, caller).await;
    agent.snapshot.note(result.as_ref().map_err(|error| *error), begin.elapsed());
    result
}

async fn try_prepare(
    agent: &Arc<Agent>,
    request: PrepareRequest,
    caller: Option<ConnectionId>,
) -> Result<PrepareReport, PrepareError> {
    let hold = agent.snapshot.begin(Work::Prepare).ok_or(PrepareError::Busy)?;
    let outcome = tokio::select! {
        biased;
        () = agent.snapshot.cancelled() => Err(PrepareError::Aborted),
        outcome = run(agent, hold, request, caller) => outcome,
    };
    match outcome {
        Ok((hold, report)) => {
            agent.snapshot.settle(agent, Work::Prepare, hold, watchdog(agent, request));
            Ok(report)
        }
        Err(error) => {
            agent.snapshot.gave_up();
            Err(error)
        }
    }
}

fn watchdog(agent: &Agent, request: PrepareRequest) -> Duration {
    let asked = request.watchdog_ms.map(|ms| Duration::from_millis(ms).clamp(SHORTEST_WATCHDOG, LONGEST_WATCHDOG));
    asked.unwrap_or(agent.durations.watchdog)
}

fn budget(request: PrepareRequest) -> Duration {
    Duration::from_millis(request.budget_ms).min(MAX_BUDGET)
}

async fn run(
    agent: &Arc<Agent>,
    mut hold: Hold,
    request: PrepareRequest,
    caller: Option<ConnectionId>,
) -> Result<(Hold, PrepareReport), PrepareError> {
    let budget = budget(request);
    let mut steps = Steps::new(budget);
    steps.keep_back(FACTS_LIMIT.min(budget / 4));
    shut_out_work(&mut steps, agent, &mut hold).await?;
    close_connections(&mut steps, agent, caller).await;
    stop_ports(&mut steps, agent, &mut hold).await;
    if let Some(guest) = &agent.guest {
        if request.freeze && hold.frozen.is_none() {
            freeze_cgroups(&mut steps, FREEZE_LIMIT, guest, &mut hold).await;
        }
        disk_and_cache(&mut steps, &agent.snapshot.calls, guest, request, Limits::of(budget)).await;
    }
    agent.ports.note_captured(request.connections);
    steps.keep_back(Duration::ZERO);
    let reading = agent.snapshot.calls.call("facts", || Ok(Facts::read()));
    let facts = steps.run_quietly("facts", FACTS_LIMIT, reading).await.unwrap_or_default();
    let report = PrepareReport {
        steps: steps.into_reports(),
        vmcoreinfo: facts.vmcoreinfo,
        mem_free: facts.mem_free,
        kernel_release: facts.kernel_release,
        boot_id: facts.boot_id,
        generation: agent.snapshot.generation(),
        checked_free_pages: facts.checked_free_pages,
    };
    Ok((hold, report))
}

/// The one essential step. What a freeze holds already stays held.
async fn shut_out_work(steps: &mut Steps, agent: &Agent, hold: &mut Hold) -> Result<(), PrepareError> {
    let held = hold.quiet.take();
    let quiet = async {
        let quiet = match held {
            Some(quiet) => quiet,
            None => agent.snapshot.activity.quiet().await,
        };
        Ok((quiet, Done::default()))
    };
    hold.quiet = Some(steps.run("exclude", QUIET_LIMIT, quiet).await.ok_or(PrepareError::NotQuiet)?);
    Ok(())
}

async fn close_connections(steps: &mut Steps, agent: &Agent, caller: Option<ConnectionId>) {
    let step = async {
        agent.connections.finish_all_but(caller);
        while agent.connections.count_but(caller) > 0 {
            tokio::time::sleep(COUNT_EVERY).await;
        }
        Ok(((), Done::default()))
    };
    if steps.run("connections", CONNECTIONS_LIMIT, step).await.is_none() {
        // Their other ends would wait for ever for an answer from a guest that is gone.
        agent.connections.abort_all_but(caller);
    }
}

async fn stop_ports(steps: &mut Steps, agent: &Agent, hold: &mut Hold) {
    // Set before the attempt, so that whoever drops the hold starts them again.
    hold.ports = Some(Arc::clone(&agent.ports));
    let step = async {
        agent.ports.stop().await;
        Ok(((), Done { bytes: 0, detail: Some(agent.ports.summary()) }))
    };
    steps.run("ports", PORTS_LIMIT, step).await;
}

async fn disk_and_cache(steps: &mut Steps, calls: &Offload, guest: &Guest, request: PrepareRequest, limits: Limits) {
    let overlay = guest.overlay.clone();
    let flushed = steps.run_call("sync", limits.sync, calls, move || sync(&overlay)).await;
    if request.cache == CachePolicy::Drop {
        if flushed {
            steps.run_call("cache", limits.cache, calls, drop_cache).await;
        } else {
            steps.skip("cache", "dirty pages were not flushed, so a drop would free little");
        }
    }
    if request.trim {
        let overlay = guest.overlay.clone();
        steps.run_call("trim", limits.trim, calls, move || trim(&overlay)).await;
    }
    // Last, since every step before frees pages.
    steps.run_call("drain", DRAIN_LIMIT, calls, per_cpu_lists::drain).await;
}

fn open_directory(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// Flushes the file systems that hold the user's files: the overlay disk, and through it the joined root.
fn sync(overlay: &Path) -> std::io::Result<Done> {
    let before = memory().dirty;
    for path in [Path::new("/"), overlay] {
        rustix::fs::syncfs(open_directory(path)?)?;
    }
    Ok(Done { bytes: before.saturating_sub(memory().dirty), detail: None })
}

fn drop_cache() -> std::io::Result<Done> {
    let before = memory().cache;
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    Ok(Done { bytes: before.saturating_sub(memory().cache), detail: None })
}

fn trim(overlay: &Path) -> std::io::Result<Done> {
    Ok(Done { bytes: dormouse_agent_sys::trim(open_directory(overlay)?)?, detail: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_the_budget_that_it_asks_for_and_never_more_than_five_minutes() {
        for (asked, given) in [(0, 0), (2000, 2000), (300_000, 300_000), (300_001, 300_000), (u64::MAX, 300_000)] {
            let request = PrepareRequest { budget_ms: asked, ..PrepareRequest::default() };
            assert_eq!(budget(request), Duration::from_millis(given), "{asked} ms");
        }
    }
}
