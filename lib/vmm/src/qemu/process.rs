//! The QEMU process: started apart from us, known by a pidfd, and told from a later one with the same pid.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dormouse_host_sys::WriteWatch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use crate::{ProcessEnd, Result, VmmError};

/// A handle of a process; dropping it does nothing to the process.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks from the host's boot to the process's start (`proc_pid_stat(5)`, field 22).
    pub(super) start_time: u64,
    pidfd: Arc<OwnedFd>,
    killed: Arc<AtomicBool>,
    end: watch::Receiver<Option<ProcessEnd>>,
}

impl Process {
    /// Starts `binary` with `dir` as its working directory, in a process group of its own so that Ctrl-C is not for
    /// it, with an empty environment, and with no open file but its error output.
    pub(super) fn spawn(binary: &Path, args: &[String], dir: &Path) -> Result<(Self, Option<ChildStderr>)> {
        let mut command = Command::new(binary);
        command.args(args).current_dir(dir).env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(VmmError::io("start", binary))?;
        let stderr = child.stderr.take();
        let known = child.id().ok_or(io::Error::from(io::ErrorKind::NotFound)).and_then(identify);
        let (pid, start_time, pidfd) = known.map_err(|e| {
            let _ = child.start_kill();
            VmmError::io("watch the process of", binary)(e)
        })?;
        let (ended, end) = watch::channel(None);
        let killed = Arc::new(AtomicBool::new(false));
        tokio::spawn(reap(child, Arc::clone(&killed), ended));
        Ok((Self { pid, start_time, pidfd: Arc::new(pidfd), killed, end }, stderr))
    }

    /// Finds a process that somebody else started. `None` if it is gone, also when its pid has been given away since.
    pub(super) fn find(pid: u32, start_time: u64) -> Option<Self> {
        let (pid, found, pidfd) = identify(pid).ok().filter(|(_, found, _)| *found == start_time)?;
        let pidfd = Arc::new(pidfd);
        #[expect(deprecated, reason = "its successor is unsafe; this descriptor stays open as long as it is watched")]
        let watched = AsyncFd::with_interest(Arc::clone(&pidfd), Interest::READABLE).ok()?;
        let (ended, end) = watch::channel(None);
        let killed = Arc::new(AtomicBool::new(false));
        let by_us = Arc::clone(&killed);
        tokio::spawn(async move {
            let _ = watched.readable().await;
            let end = if by_us.load(Ordering::SeqCst) { ProcessEnd::Killed } else { ProcessEnd::Unknown };
            ended.send_replace(Some(end));
        });
        Some(Self { pid, start_time: found, pidfd, killed, end })
    }

    /// Sends SIGKILL. Fails only for a process that is gone.
    pub(super) fn kill(&self) {
        if self.end.borrow().is_none() {
            self.killed.store(true, Ordering::SeqCst);
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> ProcessEnd {
        let mut end = self.end.clone();
        let end = end.wait_for(Option::is_some).await;
        end.map_or(None, |end| *end).unwrap_or(ProcessEnd::Unknown)
    }

    /// The number as the system takes it.
    pub(super) fn id(&self) -> io::Result<Pid> {
        as_id(self.pid)
    }

    /// Watches what it writes to its memory. Its main thread is stopped for a moment.
    pub(super) fn watch_writes(&self) -> io::Result<WriteWatch> {
        let watch = WriteWatch::of(self.id()?, &self.pidfd)?;
        // While the process lived its number was nobody else's.
        if self.is_alive() { Ok(watch) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Whether it has not ended: then the pid is its own, and always was.
    pub(super) fn is_alive(&self) -> bool {
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut watched, Some(&Timespec::default())), Ok(0))
    }
}

async fn reap(mut child: Child, killed: Arc<AtomicBool>, ended: watch::Sender<Option<ProcessEnd>>) {
    let status = child.wait().await;
    let end = match status.map(|s| (s.code(), s.signal())) {
        _ if killed.load(Ordering::SeqCst) => ProcessEnd::Killed,
        Ok((Some(code), _)) => ProcessEnd::Exited { code },
        Ok((None, Some(signal))) => ProcessEnd::Signalled { signal },
        _ => ProcessEnd::Unknown,
    };
    ended.send_replace(Some(end));
}

/// The pidfd is opened before the start time is read: so both are of one process, or the pidfd is of a dead one.
fn identify(pid: u32) -> io::Result<(u32, u64, OwnedFd)> {
    let pidfd = pidfd_open(as_id(pid)?, PidfdFlags::NONBLOCK)?;
    Ok((pid, start_time(pid)?, pidfd))
}

fn as_id(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput.into())
}

fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or(io::ErrorKind::InvalidData.into())
}

/// The program's name, field 2, may itself contain spaces and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Whatever process has this pid now.
#[cfg(test)]
pub(super) fn of(pid: u32) -> Process {
    start_time(pid).ok().and_then(|time| Process::find(pid, time)).expect("it runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_name_with_parentheses() {
        let fields = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_start_time(&format!("7 (a) b) {fields}")), Some(22));
        assert_eq!(parse_start_time("7 (a) S 1"), None);
    }

    #[tokio::test]
    async fn a_process_with_the_pid_but_another_start_time_is_not_taken() {
        let (pid, time, _) = identify(std::process::id()).unwrap();
        assert!(Process::find(pid, time).is_some());
        assert!(Process::find(pid, time + 1).is_none());
    }
}
