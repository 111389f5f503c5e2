//! A snapshot of a guest that goes on: for how long its virtual CPUs stand still.

use std::sync::Arc;

use anyhow::Context;
use dormouse_guest_mem::Bytes;
use dormouse_lifecycle::Inspection;

use crate::figures::{Check, Value};
use crate::lab::{Lab, Running};

/// Wanted: at most so long for each GiB of pages that are not free.
const MOST_STOPPED: Value = Value::Millis(120.0);
/// The step of the report that is all of it.
const IN_ALL: &str = "stopped in all";

/// Takes one and removes it again. Gives figures, and what the time was spent on.
pub(super) async fn measure(lab: &Arc<Lab>, running: &Running) -> anyhow::Result<(Vec<Check>, String)> {
    let snapshot = lab.host.checkpoint(&running.info.id, None).await?;
    let seen = lab.host.inspect(&snapshot.id).await;
    lab.host.remove_snapshot(snapshot.id.as_str()).await?;
    let seen = seen?;
    let steps: Vec<_> = seen.steps.iter().map(|s| format!("{} {:.1} ms", s.name, millis(s.micros))).collect();
    Ok((checks(&seen)?, format!("checkpoint: {}", steps.join(", "))))
}

fn checks(seen: &Inspection) -> anyhow::Result<Vec<Check>> {
    let stopped = seen.steps.iter().find(|step| step.name == IN_ALL).context("for how long is not in the report")?;
    let cost = seen.stillness.context("what it cost is not in the report")?;
    let (stopped, used) = (millis(stopped.micros), Bytes(seen.ram.0.saturating_sub(seen.free.0)));
    let per_gib = stopped / (used.as_mib() / 1024.0).max(1e-9);
    let name = format!("checkpoint: virtual CPUs stopped, for each GiB of the {used} that are not free");
    Ok(vec![
        Check::at_most(name, Value::Millis(per_gib), MOST_STOPPED),
        Check::plain("checkpoint: virtual CPUs stopped", Value::Millis(stopped)),
        Check::plain("checkpoint: copied meanwhile", Value::Size(cost.copied)),
        Check::plain("checkpoint: copied ahead, while it ran", Value::Size(cost.ahead)),
        Check::plain("checkpoint: page faults meanwhile", Value::Count(cost.page_faults)),
        Check::plain("checkpoint: CPU time meanwhile", Value::Millis(millis(cost.cpu_micros))),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
