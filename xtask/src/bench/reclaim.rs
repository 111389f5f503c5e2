//! What the agent's reclaimer costs a busy guest: a scenario on a real guest, run by itself.

use std::process::Command;

use anyhow::{Context, bail};

/// Runs the scenario, which takes pairs of turns for so many seconds and prints the figures beside what is wanted.
pub(crate) fn run(seconds: u64) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--release", "--locked", "--workspace", "--test", "scenarios", "--"])
        .args(["--ignored", "--exact", "--nocapture", "reclaim_bench::the_cost_for_a_busy_guest"])
        .env("DORMOUSE_BENCH_SECONDS", seconds.to_string())
        .current_dir(crate::root())
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("the scenario failed");
    }
    Ok(())
}
