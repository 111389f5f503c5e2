//! Measurements. Every figure is a quantity or a ratio taken in this run; nothing depends on a bare time.

pub(crate) mod agent;
pub(crate) mod image;
pub(crate) mod introspect;
mod real_guest;
pub(crate) mod reclaim;
pub(crate) mod snapshot;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that this process has used so far, all threads together.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// CPU time of the quickest of several runs: what disturbs a run only ever adds to it.
fn least_cpu<T>(runs: usize, mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..runs.max(1) {
        let before = cpu_time();
        let result = work()?;
        let took = cpu_time().saturating_sub(before);
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            best = Some((took, result));
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("nothing was run"))
}

/// Gigabytes (10⁹) per CPU second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64().max(1e-9) / 1e9
}
