//! Rules that no compiler knows: file sizes, layering, who may hold unsafe code, that tests which are named exist.

mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Source files are split by concept before they get this long. Tests beside the code count.
const MAX_LINES: usize = 500;
/// The crates that exist for kernel ABI.
const MAY_HOLD_UNSAFE: [&str; 2] = ["crates/agent-sys", "crates/host-sys"];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut findings = Vec::new();
    let sources = tracked(".rs")?;
    for path in &sources {
        check_length(path, &mut findings)?;
    }
    faults::check(&sources, &mut findings)?;
    for manifest in tracked("Cargo.toml")? {
        check_layers(&manifest, &mut findings)?;
        check_unsafe(&manifest, &mut findings)?;
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} rule(s) broken", findings.len());
    }
    println!("tidy: {} source files follow the rules", sources.len());
    Ok(())
}

fn tracked(suffix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let out = Command::new("git").args(["ls-files"]).current_dir(crate::root()).output().context("run git")?;
    let listed = String::from_utf8(out.stdout)?;
    let paths = listed.lines().filter(|l| l.ends_with(suffix)).map(|l| crate::root().join(l));
    Ok(paths.filter(|p| p.is_file()).collect())
}

fn check_length(path: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let lines = fs::read_to_string(path)?.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{}: {lines} lines, more than {MAX_LINES}: split it by concept", path.display()));
    }
    Ok(())
}

/// `crates/` depend on `crates/`, `lib/` on `crates/` and `lib/`, nobody on `bin/`.
fn check_layers(manifest: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let root = crate::root();
    let shown = manifest.strip_prefix(&root).unwrap_or(manifest);
    if !shown.starts_with("crates") {
        return Ok(());
    }
    let text = fs::read_to_string(manifest)?;
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let above: Vec<_> = workspace
        .lines()
        .filter(|l| l.contains("path = \"lib/") || l.contains("path = \"bin/"))
        .filter_map(|l| l.split_once(' ').map(|(name, _)| name))
        .collect();
    for line in text.lines() {
        if let Some(name) = above.iter().find(|name| line.split(' ').next() == Some(name)) {
            findings.push(format!("{}: depends on {name}, which lies above crates/", shown.display()));
        }
    }
    Ok(())
}

fn check_unsafe(manifest: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let dir = manifest.parent().unwrap_or(manifest);
    let shown = dir.strip_prefix(crate::root()).unwrap_or(dir);
    if MAY_HOLD_UNSAFE.iter().any(|may| shown == Path::new(may)) || shown.starts_with("fuzz") {
        return Ok(());
    }
    for name in ["src/lib.rs", "src/main.rs"] {
        let file = dir.join(name);
        if file.is_file() && !fs::read_to_string(&file)?.contains("#![forbid(unsafe_code)]") {
            findings.push(format!("{}/{name}: does not forbid unsafe code", shown.display()));
        }
    }
    Ok(())
}
