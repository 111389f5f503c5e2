//! Looking at the machine. No judgement here.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use dormouse_vmm::qemu::{Accel, KvmState, ProbeError, Qemu, QemuOptions};

/// What was found.
#[derive(Debug)]
pub(super) struct Facts {
    /// QEMU's version, machine type and whether it uses KVM; or why there is none.
    pub(super) qemu: Result<QemuFound, QemuMissing>,
    /// Programs that builds need, and whether they are there.
    pub(super) tools: Vec<(&'static str, bool)>,
    /// Room in /dev/shm.
    pub(super) shm: Option<Bytes>,
    /// Room in the state folder's file system.
    pub(super) disk: Option<Bytes>,
    /// Whether that file system can share blocks between files; `None` if it could not be tried.
    pub(super) reflink: Option<bool>,
    /// Where the state folder is or will be.
    pub(super) state: PathBuf,
    /// Where the agent binary is or should be, and whether it is there.
    pub(super) agent: (PathBuf, bool),
    /// Whether a daemon answers.
    pub(super) daemon: bool,
}

#[derive(Debug)]
pub(super) struct QemuFound {
    pub(super) version: String,
    pub(super) machine: String,
    pub(super) uses_kvm: bool,
    pub(super) kvm: KvmState,
}

#[derive(Debug)]
pub(super) enum QemuMissing {
    TooOld(String),
    Other(String),
}

/// Programs that builds of templates start.
const TOOLS: [&str; 4] = ["mmdebstrap", "mke2fs", "zstd", "unshare"];

/// Looks at everything. Writes nothing but a file without a name in the state folder's file system.
pub(super) async fn gather(state: &Path, daemon: bool) -> Facts {
    let there = existing(state);
    let agent = std::env::var_os("DORMOUSE_AGENT")
        .map(PathBuf::from)
        .unwrap_or_else(|| std::env::current_exe().unwrap_or_default().with_file_name("dormouse-agent"));
    Facts {
        qemu: qemu().await,
        tools: TOOLS.map(|tool| (tool, on_path(tool))).to_vec(),
        shm: room(Path::new("/dev/shm")),
        disk: room(&there),
        reflink: reflink(&there),
        state: state.to_owned(),
        agent: (agent.clone(), agent.is_file()),
        daemon,
    }
}

async fn qemu() -> Result<QemuFound, QemuMissing> {
    match Qemu::probe(QemuOptions::default()).await {
        Ok(qemu) => {
            let facts = qemu.facts();
            Ok(QemuFound {
                version: facts.version.clone(),
                machine: facts.machine.clone(),
                uses_kvm: facts.accel == Accel::Kvm,
                kvm: facts.kvm.clone(),
            })
        }
        Err(ProbeError::TooOld { found, .. }) => Err(QemuMissing::TooOld(found)),
        Err(other) => Err(QemuMissing::Other(other.to_string())),
    }
}

/// Also where root's programs are, which are not on everybody's path.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(program).is_file())
}

/// The folder itself, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|f| f.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn room(folder: &Path) -> Option<Bytes> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(Bytes(found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Tries it on files without names, which are gone when closed.
fn reflink(folder: &Path) -> Option<bool> {
    let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).ok()?;
    let unnamed = || OpenOptions::new().read(true).write(true).custom_flags(flags).open(folder).ok();
    let (from, to) = (unnamed()?, unnamed()?);
    from.set_len(4096).ok()?;
    Some(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_existing_folder_is_looked_at_and_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert_eq!(existing(&below), folder.path());
        assert!(room(folder.path()).is_some());
        let _ = reflink(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
