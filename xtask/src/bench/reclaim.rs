//! What the agent's reclaimer costs a busy guest: a scenario on a real guest, run by itself.

use std::process::Command;

use anyhow::{Context, bail};

/// Runs the scenario, which prints the figures beside what is wanted.
pub(crate) fn run() -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--release", "--locked", "--workspace", "--test", "scenarios", "--"])
        .args(["--ignored", "--exact", "--nocapture", "reclaim_bench::the_cost_for_a_busy_guest"])
        .current_dir(crate::root())
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("the scenario failed");
    }
    Ok(())
}
