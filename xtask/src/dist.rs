//! What a user installs: the host binary with the agent beside it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// Builds both binaries in release mode into one folder.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let agent = crate::agent::build()?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--package", "dormouse"])
        .current_dir(crate::root())
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("building dormouse failed");
    }
    let dist = crate::target_dir().join("dist");
    fs::create_dir_all(&dist)?;
    for (from, name) in [(agent, "dormouse-agent"), (crate::target_dir().join("release/dormouse"), "dormouse")] {
        // Replaced by rename: a running daemon keeps its own.
        let half = dist.join(format!("{name}.half"));
        fs::copy(&from, &half).with_context(|| format!("copy {}", from.display()))?;
        fs::rename(&half, dist.join(name))?;
    }
    Ok(dist)
}
