//! The steps of a prepare, in their order.
//!
//! Flushing comes before the cache drop, which frees clean pages only, and before the trim, which tells only blocks that are
//! committed as free. Work is shut out first, so that no step undoes an earlier one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dormouse_agent_proto::control::{CachePolicy, PrepareReport, PrepareRequest};
use thiserror::Error;

use super::facts::{Facts, Memory};
use super::freezer;
use super::per_cpu_lists;
use super::phase::Hold;
use super::steps::{Done, Steps, blocking};
use crate::agent::{Agent, Guest};
use crate::server::ConnectionId;

/// Longest budget that a caller gets.
const MAX_BUDGET: Duration = Duration::from_secs(300);
const QUIET_LIMIT: Duration = Duration::from_secs(2);
const CONNECTIONS_LIMIT: Duration = Duration::from_millis(250);
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How often open connections are counted while they close.
const COUNT_EVERY: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PrepareError {
    #[error("a snapshot is already being prepared, or is prepared: abort it, or wait for the restore")]
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
    if !agent.snapshot.start_preparing() {
        return Err(PrepareError::Busy);
    }
    let outcome = tokio::select! {
        biased;
        () = agent.snapshot.cancelled() => Err(PrepareError::Aborted),
        outcome = run(agent, request, caller) => outcome,
    };
    match outcome {
        Ok((hold, report)) => {
            agent.snapshot.prepared(agent, hold);
            Ok(report)
        }
        Err(error) => {
            agent.snapshot.gave_up();
            Err(error)
        }
    }
}

async fn run(
    agent: &Arc<Agent>,
    request: PrepareRequest,
    caller: Option<ConnectionId>,
) -> Result<(Hold, PrepareReport), PrepareError> {
    let mut steps = Steps::new(Duration::from_millis(request.budget_ms).min(MAX_BUDGET));
    let mut hold = Hold::default();
    let quiet = async { Ok((agent.snapshot.activity.quiet().await, Done::default())) };
    hold.quiet = Some(steps.run("exclude", QUIET_LIMIT, quiet).await.ok_or(PrepareError::NotQuiet)?);
    close_connections(&mut steps, agent, caller).await;
    if let Some(guest) = &agent.guest {
        if request.freeze {
            freeze(&mut steps, guest, &mut hold).await;
        }
        disk_and_cache(&mut steps, guest, request).await;
    }
    let facts = Facts::read();
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

async fn close_connections(steps: &mut Steps, agent: &Agent, caller: Option<ConnectionId>) {
    let step = async {
        agent.connections.finish_all_but(caller);
        // Idle ones close at once; one with an answer under way may stay, and is cut off at restore.
        let begin = tokio::time::Instant::now();
        let mut left = agent.connections.count_but(caller);
        while left > 0 && begin.elapsed() < CONNECTIONS_LIMIT / 5 {
            tokio::time::sleep(COUNT_EVERY).await;
            left = agent.connections.count_but(caller);
        }
        let detail = (left > 0).then(|| format!("{left} busy connections stay open"));
        Ok(((), Done { bytes: 0, detail }))
    };
    steps.run("connections", CONNECTIONS_LIMIT, step).await;
}

async fn freeze(steps: &mut Steps, guest: &Guest, hold: &mut Hold) {
    // Set before the attempt, so that a half-done freeze is undone by whoever drops the hold.
    hold.frozen = Some(guest.cgroups.clone());
    let step = async { freezer::freeze(&guest.cgroups).await.map(|()| ((), Done::default())) };
    if steps.run("freeze", FREEZE_LIMIT, step).await.is_none() {
        drop(Hold { frozen: hold.frozen.take(), quiet: None });
    }
}

async fn disk_and_cache(steps: &mut Steps, guest: &Guest, request: PrepareRequest) {
    let overlay = guest.overlay.clone();
    let flushed =
        steps.run("sync", MAX_BUDGET, async { blocking(move || sync(&overlay)).await.map(|done| ((), done)) }).await;
    if request.cache == CachePolicy::Drop {
        if flushed.is_some() {
            steps.run("cache", MAX_BUDGET, async { blocking(drop_cache).await.map(|done| ((), done)) }).await;
        } else {
            steps.skip("cache", "dirty pages were not flushed, so a drop would free little");
        }
    }
    if request.trim {
        let overlay = guest.overlay.clone();
        steps.run("trim", MAX_BUDGET, async { blocking(move || trim(&overlay)).await.map(|done| ((), done)) }).await;
    }
    // Last, since every step before frees pages.
    steps.run("drain", DRAIN_LIMIT, async { blocking(per_cpu_lists::drain).await.map(|done| ((), done)) }).await;
}

fn open_directory(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// Flushes the file systems that hold the user's files: the overlay disk, and through it the joined root.
fn sync(overlay: &Path) -> std::io::Result<Done> {
    let before = Memory::read().dirty;
    for path in [Path::new("/"), overlay] {
        rustix::fs::syncfs(open_directory(path)?)?;
    }
    Ok(Done { bytes: before.saturating_sub(Memory::read().dirty), detail: None })
}

fn drop_cache() -> std::io::Result<Done> {
    let before = Memory::read().cache;
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    Ok(Done { bytes: before.saturating_sub(Memory::read().cache), detail: None })
}

fn trim(overlay: &Path) -> std::io::Result<Done> {
    Ok(Done { bytes: dormouse_agent_sys::trim(open_directory(overlay)?)?, detail: None })
}
