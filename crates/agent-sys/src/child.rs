//! What a child process does between `fork` and `exec`.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid};

/// Whom a child runs as. Supplementary groups are exactly those listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id, real and effective.
    pub uid: u32,
    /// Group id, real and effective.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How a child differs from the agent. Nothing in it allocates once the child exists.
#[derive(Debug)]
pub struct ChildSetup {
    /// `None` keeps the agent's own identity, which is all that an unprivileged agent can do.
    pub credentials: Option<Credentials>,
    /// Directory to start in, entered with the child's own permissions.
    pub working_dir: CString,
    /// Standard input becomes the controlling terminal.
    pub controlling_terminal: bool,
    /// Descriptors that it may open (soft limit); `None` keeps the agent's limit.
    pub open_files: Option<u64>,
    /// An open `cgroup.procs` that the child enters before it gives up privileges.
    pub cgroup: Option<OwnedFd>,
}

/// Arranges that `command`, when spawned, becomes leader of its own session and takes on `setup`.
///
/// The session means that the process group id equals the pid, so the whole group can be signalled. An error of any step makes
/// `spawn` fail with that error and no child is left.
pub fn prepare_child(command: &mut Command, setup: ChildSetup) {
    let groups: Vec<Gid> = setup.credentials.iter().flat_map(|c| &c.groups).map(|gid| Gid::from_raw(*gid)).collect();
    // SAFETY: the closure runs in the forked child, where only async-signal-safe work is allowed. It makes system calls through
    // rustix's raw backend on data prepared above: no allocation, no lock, no libc state.
    unsafe {
        command.pre_exec(move || enter(&setup, &groups));
    }
}

fn enter(setup: &ChildSetup, groups: &[Gid]) -> io::Result<()> {
    rustix::process::setsid()?;
    forget_ignored_signals();
    if setup.controlling_terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    if let Some(cgroup) = &setup.cgroup {
        rustix::io::write(cgroup, b"0")?;
    }
    become_ordinary_oom_victim();
    if let Some(current) = setup.open_files {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum })?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(credentials) = &setup.credentials {
        rustix::thread::set_thread_groups(groups)?;
        let gid = Gid::from_raw(credentials.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(credentials.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    rustix::process::chdir(setup.working_dir.as_c_str())?;
    Ok(())
}

/// Signals that whoever started the agent had it ignore would be ignored by every program here too, `Ctrl-C` for one.
fn forget_ignored_signals() {
    for signal in 1..32 {
        // SAFETY: `signal` with SIG_DFL installs no code and is async-signal-safe. SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// The agent is exempt from the OOM killer and its children are not. Raising the own score needs no privilege, so a failure
/// only means that there is no /proc.
fn become_ordinary_oom_victim() {
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}
