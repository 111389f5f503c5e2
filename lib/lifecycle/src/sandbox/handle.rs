//! How the rest of the daemon talks to the owner of a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::host::Connected;
use crate::{Endpoint, Error, PauseOptions, Result, SandboxInfo, Secret, SnapshotId, SnapshotInfo, TemplateName};

/// Requests wait here while the owner is busy; more callers than this wait to be heard at all.
pub(super) const QUEUE: usize = 32;

type Reply<T> = oneshot::Sender<Result<T>>;

/// A request to the owner of a sandbox. See [`decide`](super::decide) for when each is possible.
pub(crate) enum Command {
    /// Write it to disk and end its VM.
    Pause { options: PauseOptions, reply: Reply<SnapshotId> },
    /// Make sure that it runs for at least `timeout` from now.
    Connect { timeout: Duration, reply: Reply<Connected> },
    /// How to reach its agent.
    Reach { reply: Reply<Endpoint> },
    /// Let its time end `timeout` from now, also if that is earlier.
    SetTimeout { timeout: Duration, reply: Reply<()> },
    /// Copy what a snapshot is made of and let it go on; the answer comes when the snapshot is durable.
    Checkpoint { name: Option<TemplateName>, permit: OwnedSemaphorePermit, reply: Reply<SnapshotInfo> },
    /// Hold its snapshot still while `done` is pending, and say what to start from.
    Fork { reply: Reply<ForkSource>, done: oneshot::Receiver<()> },
    /// What its guest last printed.
    Console { reply: Reply<Vec<u8>> },
    /// Remove it for good.
    Remove { reply: Reply<()> },
}

/// What a fork starts from.
#[derive(Clone, Debug)]
pub(crate) struct ForkSource {
    pub(crate) snapshot: SnapshotId,
    /// The token that the agent in the snapshot wants.
    pub(crate) token: Secret,
    /// How many lives that agent has had.
    pub(crate) generation: u64,
    /// The environment of its processes.
    pub(crate) env: BTreeMap<String, String>,
}

/// The daemon's end of an owner task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) info: watch::Receiver<SandboxInfo>,
}

impl Handle {
    /// The sandbox as its owner last described it.
    pub(crate) fn info(&self) -> SandboxInfo {
        self.info.borrow().clone()
    }

    /// Waits until the owner has ended, which it does after the request that it is carrying out once nobody holds a
    /// handle any more.
    pub(crate) async fn let_go(self) {
        let Self { commands, mut info } = self;
        drop(commands);
        while info.changed().await.is_ok() {}
    }

    /// Sends a request and waits for the answer.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let gone = || Error::NoSandbox(self.info.borrow().id.clone());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
