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
