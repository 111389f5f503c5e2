//! Asking the guest to get ready.

use std::time::Duration;

use dormouse_agent_proto::control::{CachePolicy, PrepareReport, StepOutcome};

use super::call_off::no_snapshot_follows;
use crate::agent::{Agent, Prepared};
use crate::host::Shared;
use crate::snapshot::report::Steps;
use crate::{Error, Result, SnapshotId};

/// No honest agent has more steps; a hostile one must not flood the log.
const MOST_STEPS: usize = 16;
const LONGEST_NAME: usize = 24;

/// Asks the guest to get ready, and notes what of that was passed over.
pub(super) async fn prepare(
    shared: &Shared,
    agent: &Agent,
    cache: CachePolicy,
    id: &SnapshotId,
    steps: &mut Steps,
) -> Result<PrepareReport> {
    let prepared = match agent.prepare(cache, &shared.limits).await? {
        Prepared::Now(report) => report,
        Prepared::Before(refusal) => again(shared, agent, cache, id, &refusal).await?,
    };
    steps.done("prepare");
    passed_over(id, &prepared).for_each(|(name, took)| steps.also(&name, took));
    Ok(prepared)
}

/// Asks a guest again that is still ready for an earlier snapshot, which never came: the request for that got through late, or what
/// called it off was lost. Its report would be of that time. A guest that refuses again fails.
async fn again(
    shared: &Shared,
    agent: &Agent,
    cache: CachePolicy,
    id: &SnapshotId,
    refusal: &Error,
) -> Result<PrepareReport> {
    tracing::info!(snapshot = %id, %refusal, "the guest was prepared before; that is called off first");
    no_snapshot_follows(shared, agent).await;
    match agent.prepare(cache, &shared.limits).await? {
        Prepared::Now(report) => Ok(report),
        Prepared::Before(refusal) => Err(refusal),
    }
}

/// Steps of prepare that overran or failed, and how long they took. That costs bytes or warmth, never content; somebody may still
/// want to know, so it is logged and goes into the snapshot's report.
fn passed_over<'a>(id: &'a SnapshotId, report: &'a PrepareReport) -> impl Iterator<Item = (String, Duration)> + 'a {
    let steps = report.steps.iter().filter_map(|step| match step.outcome {
        StepOutcome::Overran => Some((step, "overran")),
        StepOutcome::Failed => Some((step, "failed")),
        _ => None,
    });
    steps.take(MOST_STEPS).map(move |(step, outcome)| {
        let detail = printable(step.detail.as_deref().unwrap_or_default());
        let letters = step.name.chars().filter(|c| c.is_ascii_lowercase() || *c == ' ').take(LONGEST_NAME);
        let name = letters.collect::<String>();
        tracing::warn!(snapshot = %id, step = name, ms = step.ms, outcome, detail, "the guest did not get ready in full");
        (format!("prepare {name} {outcome}"), Duration::from_millis(step.ms))
    })
}

/// The start of a text from the guest, without what could confuse a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
