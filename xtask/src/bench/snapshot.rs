//! What a snapshot stores, by each method: a program of its own (`tests/bench`), since it drives real guests.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, bail};

/// Builds what the guests need and the program, and runs it with `options`.
pub(crate) fn run(options: &[OsString]) -> anyhow::Result<()> {
    crate::dist::build()?;
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--release", "--package", "dormouse-snapshot-bench", "--manifest-path"])
        .arg(crate::root().join("Cargo.toml"))
        .arg("--")
        .args(options)
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}
