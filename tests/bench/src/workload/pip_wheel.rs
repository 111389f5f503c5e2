//! pip itself, as this machine's Python has it: guests have no network to fetch it from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Where Debian keeps it.
const DEBIANS: &str = "/usr/share/python-wheels";

/// The newest pip wheel of this machine.
pub(super) fn find() -> anyhow::Result<PathBuf> {
    let bundled = Command::new("python3").args(["-c", "import ensurepip; print(ensurepip.__path__[0])"]).output();
    let bundled = bundled.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let folders = [PathBuf::from(DEBIANS), Path::new(&bundled).join("_bundled")];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let wheels = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("pip-") && name.ends_with(".whl")
    });
    wheels.max().context("this machine's Python has no pip wheel: run scripts/setup (python3-venv)")
}
