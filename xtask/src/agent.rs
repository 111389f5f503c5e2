//! Building the static guest agent (docs/decisions/001-static-agent.md).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Largest agent that is accepted.
const MAX_SIZE: u64 = 5_000_000;
const MUSL: &str = "x86_64-unknown-linux-musl";
const GLIBC: &str = "x86_64-unknown-linux-gnu";

/// Builds the agent for musl where the toolchain has it, else against a static glibc.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let (target, flags) = if has_target(MUSL)? {
        (MUSL, "")
    } else {
        (GLIBC, "-C target-feature=+crt-static -C relocation-model=static")
    };
    let out = crate::target_dir().join("guest");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--profile", "agent", "--package", "dormouse-agent", "--target", target])
        .arg("--target-dir")
        .arg(&out)
        .env("RUSTFLAGS", flags)
        .current_dir(crate::root())
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("building the agent failed");
    }
    let agent = out.join(target).join("agent").join("dormouse-agent");
    check_size(&agent)?;
    Ok(agent)
}

fn check_size(agent: &Path) -> anyhow::Result<()> {
    let size = agent.metadata().with_context(|| format!("look at {}", agent.display()))?.len();
    if size > MAX_SIZE {
        bail!("the agent has {size} bytes, more than {MAX_SIZE}: find what made it grow");
    }
    Ok(())
}

fn has_target(target: &str) -> anyhow::Result<bool> {
    let out =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output().context("run rustc")?;
    Ok(out.status.success() && Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
}
