//! Whose zombies are whose.
//!
//! As PID 1 the agent inherits every orphan and must reap it. The exit of a process that it started itself is awaited by a task of
//! its own, so a blanket `wait` would steal it.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Table {
    own: HashSet<u32>,
    /// Spawns whose pid is not known yet.
    spawning: usize,
}

/// The agent's own children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    table: Arc<Mutex<Table>>,
    changed: Arc<Notify>,
}

impl Children {
    fn with<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        f(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Spawns a child that `wait` of the returned handle reaps. May block; needs a tokio context.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.with(|table| table.spawning += 1);
        let child = command.spawn();
        self.with(|table| {
            table.spawning -= 1;
            table.own.extend(child.as_ref().ok().and_then(Child::id));
        });
        self.changed.notify_one();
        child
    }

    /// To be called once the child with `pid` was reaped.
    pub(super) fn reaped(&self, pid: u32) {
        self.with(|table| table.own.remove(&pid));
        self.changed.notify_one();
    }

    /// Reaps children that are nobody's, for ever.
    pub(crate) async fn reap_orphans(&self) -> io::Result<()> {
        let mut exits = signal(SignalKind::child())?;
        loop {
            while self.reap_one()? {}
            tokio::select! {
                _ = exits.recv() => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Reaps one orphan. False when the next zombie is an own child, or there is none, or one might be.
    fn reap_one(&self) -> io::Result<bool> {
        self.with(|table| {
            if table.spawning > 0 {
                return Ok(false);
            }
            match dormouse_agent_sys::peek_exited_child()? {
                Some(pid) if !table.own.contains(&pid) => dormouse_agent_sys::reap_exited_child(pid),
                _ => Ok(false),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NAME: &str = "orphans_are_reaped_and_the_exit_of_an_own_child_is_left_to_its_owner";
    const ALONE: &str = "DORMOUSE_TEST_ALONE";

    /// Whether this process runs no other test, whose children would be taken for orphans. If not, the test is run in one that does not.
    fn alone() -> bool {
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = again.args(["--exact", &format!("{module}::{NAME}"), "--nocapture"]).env(ALONE, "").output().unwrap();
        let told = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&ran.stderr));
        false
    }

    /// Whether a process has ended, reaped or not.
    fn has_ended(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    #[tokio::test]
    async fn orphans_are_reaped_and_the_exit_of_an_own_child_is_left_to_its_owner() {
        if !alone() {
            return;
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let children = Children::default();
        let reaping = children.clone();
        let reaping = tokio::spawn(async move { reaping.reap_orphans().await });
        for _ in 0..10 {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "sleep 0 & echo $!; exit 7"]).stdout(std::process::Stdio::piped());
            let mut child = children.spawn(command).unwrap();
            let (pid, mut told) = (child.id().unwrap(), child.stdout.take().unwrap());
            let mut orphan = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut told, &mut orphan).await.unwrap();
            while !has_ended(pid) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Time enough for somebody else to reap it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(child.wait().await.expect("its exit is there").code(), Some(7));
            children.reaped(pid);
            let orphan = format!("/proc/{}", orphan.trim());
            for _ in 0..1000 {
                if !std::fs::exists(&orphan).unwrap() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!std::fs::exists(&orphan).unwrap(), "the orphan is reaped");
        }
        reaping.abort();
    }
}
