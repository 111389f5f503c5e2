//! State folders of their own for scenarios that break things.

use std::fs;
use std::path::{Path, PathBuf};

use dormouse_image::PackId;
use dormouse_image::manifest::Manifest;
use rustix::process::{Pid, Signal, kill_process};

use crate::lab;

/// A state folder that starts with the shared template, and goes away with this.
pub struct FreshState {
    dir: PathBuf,
}

impl FreshState {
    /// A folder below the target folder, on the same file system as the shared one, so that the template costs
    /// nothing: its files are hard links, and nothing ever writes to them.
    pub async fn new(name: &str) -> Self {
        lab::host().await;
        let fresh = Self { dir: lab::state_dir().with_file_name(format!("state-{name}")) };
        let _ = fs::remove_dir_all(&fresh.dir);
        fresh.fill(|from, to| fs::hard_link(from, to));
        fresh
    }

    /// The same in a given folder, which may be on another file system.
    pub async fn copied_to(dir: &Path) -> Self {
        lab::host().await;
        let fresh = Self { dir: dir.to_owned() };
        fresh.fill(|from, to| {
            let status = std::process::Command::new("cp").arg("--sparse=always").arg(from).arg(to).status()?;
            assert!(status.success(), "copy {}", from.display());
            Ok(())
        });
        fresh
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    fn fill(&self, put: impl Fn(&Path, &Path) -> std::io::Result<()> + Copy) {
        let shared = lab::state_dir();
        fs::create_dir_all(&self.dir).expect("make a state folder");
        fs::copy(shared.join("VERSION"), self.dir.join("VERSION")).expect("copy the version");
        let template = fs::read_to_string(shared.join("templates/base.json")).expect("read the template's record");
        let snapshot = template.split("\"snapshot\": \"").nth(1).and_then(|rest| rest.split('"').next());
        let snapshot = Path::new("snapshots").join(snapshot.expect("the template names a snapshot"));
        for part in [Path::new("artifacts"), Path::new("templates"), &snapshot] {
            put_tree(&shared.join(part), &self.dir.join(part), put);
        }
        for pack in Manifest::read(&shared.join(&snapshot)).expect("read the template's manifest").memory.packs {
            let (from, to) = (pack_file(&shared, &pack.id), pack_file(&self.dir, &pack.id));
            fs::create_dir_all(to.parent().expect("a folder of packs")).expect("make a folder");
            put(&from, &to).unwrap_or_else(|e| panic!("{} to {}: {e}", from.display(), to.display()));
        }
    }
}

/// Where a state folder keeps a pack.
#[must_use]
pub fn pack_file(state: &Path, pack: &PackId) -> PathBuf {
    let name = pack.file_name();
    state.join("packs").join(&name[..2]).join(name)
}

impl Drop for FreshState {
    /// Also ends the VMs that a failed scenario left, by the process ids in their records.
    fn drop(&mut self) {
        for run in fs::read_dir(self.dir.join("run")).into_iter().flatten().flatten() {
            let record = fs::read(run.path().join("vm.json")).unwrap_or_default();
            let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
            let pid = record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn put_tree(from: &Path, to: &Path, put: impl Fn(&Path, &Path) -> std::io::Result<()> + Copy) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("list a folder") {
        let entry = entry.expect("list a folder");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            put_tree(&path, &target, put);
        } else {
            put(&path, &target).unwrap_or_else(|e| panic!("{} to {}: {e}", path.display(), target.display()));
        }
    }
}
