//! What is taken of a sandbox while it goes on: snapshots that callers keep, and forks.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::decide::{Action, Request};
use super::handle::ForkSource;
use super::owner::Owner;
use crate::agent::Agent;
use crate::snapshot::{Material, Subject, checkpoint};
use crate::{Error, Result, SnapshotId, SnapshotInfo, TemplateName, kept};

impl Owner {
    /// Copies what a snapshot is made of; a task of its own makes the snapshot and answers.
    pub(super) async fn checkpoint(
        &mut self,
        name: Option<TemplateName>,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<SnapshotInfo>>,
    ) {
        let copied = match self.decide(Request::Checkpoint) {
            Ok(_) => self.copy().await,
            Err(error) => Err(error),
        };
        let (id, material) = match copied {
            Ok(copied) => copied,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let record = kept::record_of(&self.record, id, name);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let made = kept::keep(&shared, material, record).await;
            drop(permit);
            if let Err(Ok(unwanted)) = reply.send(made)
                && let Err(error) = kept::remove(&shared, &unwanted.id)
            {
                tracing::warn!(snapshot = %unwanted.id, %error, "a snapshot whose caller went away could not be removed");
            }
        });
    }

    /// Gives callers something to start from. A running sandbox goes on; the snapshot of another one is held still until the
    /// caller is `done` with it.
    pub(super) async fn fork(&mut self, reply: oneshot::Sender<Result<ForkSource>>, done: oneshot::Receiver<()>) {
        match self.decide(Request::Fork) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(Action::Checkpoint) => self.fork_running(reply, done).await,
            Ok(_) => {
                let Some(snapshot) = self.record.snapshot.clone() else { return };
                if reply.send(Ok(self.source(snapshot))).is_ok() {
                    // Ends when the forks have started or failed; each of them has a deadline.
                    let _ = done.await;
                }
            }
        }
    }

    /// By a snapshot that is made for the fork alone and goes with it. Nobody names it: the next start of the daemon removes
    /// one that a crash left.
    async fn fork_running(&mut self, reply: oneshot::Sender<Result<ForkSource>>, done: oneshot::Receiver<()>) {
        let copied = match self.shared.copy_permit().await {
            Ok(permit) => self.copy().await.map(|copied| (permit, copied)),
            Err(error) => Err(error),
        };
        let (permit, (id, material)) = match copied {
            Ok(copied) => copied,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (shared, source) = (Arc::clone(&self.shared), self.source(id.clone()));
        tokio::spawn(async move {
            let storing = Arc::clone(&shared);
            let stored = crate::blocking(move || material.store(&storing)).await;
            drop(permit);
            match stored {
                Err(error) => drop(reply.send(Err(error))),
                Ok(_) => {
                    if reply.send(Ok(source)).is_ok() {
                        let _ = done.await;
                    }
                    shared.remove_snapshot(&id);
                }
            }
        });
    }

    fn source(&self, snapshot: SnapshotId) -> ForkSource {
        ForkSource {
            snapshot,
            token: self.record.token.clone(),
            generation: self.record.generation,
            env: self.record.env.clone(),
        }
    }

    /// Stops the VM for a moment and copies what a snapshot is made of.
    async fn copy(&mut self) -> Result<(SnapshotId, Material)> {
        let vm = self.running_vm()?;
        let id = SnapshotId::random().map_err(|e| Error::Vmm(e.to_string()))?;
        let run = self.shared.folder.run(&self.record.id);
        let agent = Agent::new(vm.agent_addr(), Some(self.record.token.clone()));
        let subject = Subject {
            vm: &vm,
            agent: &agent,
            machine: &self.record.machine,
            template: &self.record.template,
            parent: self.record.snapshot.as_ref(),
            run: &run,
            overlay: &run.join(crate::snapshot::OVERLAY),
        };
        let material = checkpoint(&self.shared, &subject, &id).await?;
        Ok((id, material))
    }
}
