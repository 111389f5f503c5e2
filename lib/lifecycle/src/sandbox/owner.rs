//! The task that owns a sandbox: it alone changes the sandbox's record, its VM and its snapshots.

use std::sync::Arc;
use std::time::Duration;

use dormouse_vmm::{ExitReason, Vm};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::decide::{Action, Request, decide};
use super::handle::{Command, Handle, QUEUE};
use crate::agent::{Agent, NewLife};
use crate::host::{Connected, Shared};
use crate::snapshot::{Start, Stored, Subject, call_off, restore, take};
use crate::state::{self, DurablePhase, SandboxRecord};
use crate::{Endpoint, Error, PauseOptions, Result, SandboxInfo, SnapshotId};

/// How much of a guest's console is shown.
const CONSOLE_TAIL: usize = 64 << 10;
/// Between two tries to pause a sandbox whose time is up, when the first one failed.
const EXPIRE_AGAIN: Duration = Duration::from_secs(10);

pub(crate) struct Owner {
    pub(super) shared: Arc<Shared>,
    pub(super) record: SandboxRecord,
    vm: Option<Arc<dyn Vm>>,
    commands: mpsc::Receiver<Command>,
    info: watch::Sender<SandboxInfo>,
    /// No expiry before this, after one that failed.
    not_before: Option<Timestamp>,
}

/// Whether the owner goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Owner {
    /// Starts the owner of a sandbox whose record is durable and whose VM, if its phase has one, runs.
    pub(crate) fn spawn(shared: Arc<Shared>, record: SandboxRecord, vm: Option<Arc<dyn Vm>>) -> Handle {
        let (commands, rx) = mpsc::channel(QUEUE);
        let (info, watch) = watch::channel(record.info());
        let owner = Self { shared, record, vm, commands: rx, info, not_before: None };
        tokio::spawn(owner.run());
        Handle { commands, info: watch }
    }

    async fn run(mut self) {
        loop {
            let time_left = self.time_left();
            let vm = self.vm.clone();
            let next = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    // The daemon shuts down; the VM goes on without it.
                    None => return,
                },
                reason = ended(vm.as_ref()) => self.vm_ended(&reason).await,
                () = expired(time_left) => self.expire().await,
            };
            if next == Next::End {
                return;
            }
        }
    }

    /// Time until expiry, or `None` when nothing expires.
    fn time_left(&self) -> Option<Duration> {
        if !matches!(self.record.phase, DurablePhase::Running | DurablePhase::Removing) {
            return None;
        }
        let end = self.not_before.map_or(self.record.end_at, |at| at.max(self.record.end_at));
        Some(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO))
    }

    pub(super) fn decide(&self, request: Request) -> Result<Action> {
        let has_snapshot = self.record.snapshot.is_some();
        decide(&self.record.phase, request, has_snapshot, self.record.on_timeout).map_err(|wanted| Error::WrongPhase {
            id: self.record.id.clone(),
            phase: self.record.phase.public(),
            wanted,
        })
    }

    async fn obey(&mut self, command: Command) -> Next {
        // A caller that gave up meanwhile does not get its answer; the work was still done in order.
        match command {
            Command::Pause { options, reply } => drop(reply.send(self.pause(options).await)),
            Command::Connect { timeout, reply } => drop(reply.send(self.connect(timeout).await)),
            Command::Reach { reply } => drop(reply.send(self.reach())),
            Command::SetTimeout { timeout, reply } => drop(reply.send(self.set_timeout(timeout))),
            Command::Checkpoint { name, permit, reply } => self.checkpoint(name, permit, reply).await,
            Command::Fork { reply, done } => self.fork(reply, done).await,
            Command::Console { reply } => {
                let tail = match &self.vm {
                    Some(vm) => Ok(vm.console_tail(CONSOLE_TAIL).await),
                    None => self.decide(Request::Reach).map(|_| Vec::new()),
                };
                drop(reply.send(tail));
            }
            Command::Remove { reply } => {
                let removed = self.remove().await;
                let next = if removed.is_ok() { Next::End } else { Next::GoOn };
                drop(reply.send(removed));
                return next;
            }
        }
        Next::GoOn
    }

    async fn pause(&mut self, options: PauseOptions) -> Result<SnapshotId> {
        self.decide(Request::Pause)?;
        self.pause_now(options).await
    }

    async fn pause_now(&mut self, options: PauseOptions) -> Result<SnapshotId> {
        let vm = self.running_vm()?;
        let id = SnapshotId::random().map_err(|e| Error::Vmm(e.to_string()))?;
        // Only helps after a crash: without it recovery lets the sandbox run on. So a full disk must not end the
        // pause here, where it is not known yet how much room is needed.
        if let Err(error) = self.enter(DurablePhase::Pausing { pending: id.clone() }) {
            tracing::warn!(sandbox = %self.record.id, %error, "that a pause began could not be recorded");
        }
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
        let outcome = match take(&self.shared, &subject, options, &id).await {
            Ok(stored) => self.adopt_snapshot(&agent, stored).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            self.settle(DurablePhase::Running, format!("pausing failed: {error}"));
        }
        outcome.map(|()| id)
    }

    /// Records a published snapshot, ends the VM, and removes what the snapshot replaces. If it cannot be recorded
    /// it is removed again and the VM goes on.
    async fn adopt_snapshot(&mut self, agent: &Agent, stored: Stored) -> Result<()> {
        let replaced = self.record.snapshot.replace(stored.id.clone());
        self.record.last_failure = None;
        if let Err(error) = self.enter(DurablePhase::Paused) {
            self.record.snapshot = replaced;
            self.shared.remove_snapshot(&stored.id);
            let vm = self.running_vm()?;
            return Err(call_off(&self.shared, &vm, agent, error).await);
        }
        self.shared.remote.snapshot_is_there(&stored);
        self.end_vm().await.unwrap_or_else(|error| {
            tracing::error!(sandbox = %self.record.id, %error, "the VM of a paused sandbox could not be ended");
        });
        if let Some(old) = replaced {
            self.shared.remove_snapshot(&old);
        }
        self.shared.compactor.consider(&stored.id);
        Ok(())
    }

    async fn connect(&mut self, timeout: Duration) -> Result<Connected> {
        match self.decide(Request::Connect)? {
            Action::Resume => {
                self.resume(timeout).await?;
                Ok(Connected::Resumed)
            }
            _ => {
                // A connect never takes time away.
                let end = in_time(timeout)?;
                if end > self.record.end_at {
                    self.record.end_at = end;
                    self.save()?;
                }
                Ok(Connected::WasRunning)
            }
        }
    }

    async fn resume(&mut self, timeout: Duration) -> Result<()> {
        let before = self.record.phase.clone();
        let Some(id) = self.record.snapshot.clone() else { return self.decide(Request::Connect).map(drop) };
        let end_at = in_time(timeout)?;
        self.enter(DurablePhase::Resuming)?;
        let resumed = match self.start_from(&id).await {
            Ok(vm) => self.adopt_vm(vm, end_at).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &resumed {
            self.settle(before, format!("resuming failed: {error}"));
        }
        resumed
    }

    /// Records that a resumed VM runs. If it cannot be recorded the VM is ended again: the snapshot is as good.
    async fn adopt_vm(&mut self, vm: Arc<dyn Vm>, end_at: Timestamp) -> Result<()> {
        let old_end = std::mem::replace(&mut self.record.end_at, end_at);
        self.vm = Some(vm);
        self.record.generation += 1;
        self.record.last_failure = None;
        self.not_before = None;
        let recorded = self.enter(DurablePhase::Running);
        if recorded.is_err() {
            self.record.end_at = old_end;
            self.end_vm().await?;
        }
        recorded
    }

    async fn start_from(&self, snapshot: &SnapshotId) -> Result<Arc<dyn Vm>> {
        let _held = self.shared.readers.hold(snapshot);
        let stored = Stored::open(self.shared.folder.snapshot(snapshot), snapshot.clone())?;
        let start = Start {
            stored: &stored,
            run: self.shared.folder.run(&self.record.id),
            old_token: Some(self.record.token.clone()),
            life: NewLife {
                token: &self.record.token,
                env: &self.record.env,
                hostname: self.record.id.as_str(),
                generation: self.record.generation + 1,
                now: Timestamp::now(),
            },
        };
        let _packs = self.shared.fetch(&stored).await?;
        let _one_of_few = self.shared.start_permit().await?;
        self.shared.clear_leftover(&self.record.id).await?;
        restore(&self.shared, &start).await
    }

    fn reach(&self) -> Result<Endpoint> {
        self.decide(Request::Reach)?;
        let addr = self.running_vm()?.agent_addr();
        Ok(Endpoint { addr, token: self.record.token.clone() })
    }

    fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.decide(Request::SetTimeout)?;
        self.record.end_at = in_time(timeout)?;
        self.not_before = None;
        self.save()
    }

    /// Removes the sandbox with everything it has.
    async fn remove(&mut self) -> Result<()> {
        let record = self.shared.folder.sandbox(&self.record.id);
        let remove_record = || state::remove_file(&record).map_err(Error::io(format!("remove {}", record.display())));
        if let Err(error) = self.enter(DurablePhase::Removing) {
            // On a full disk nothing can be written, but removing is what makes room. A crash after this leaves only
            // what the next start of the daemon clears away.
            tracing::warn!(sandbox = %self.record.id, %error, "a removal could not be recorded");
            remove_record()?;
            self.record.phase = DurablePhase::Removing;
        }
        self.end_vm().await?;
        if let Some(snapshot) = self.record.snapshot.take() {
            self.shared.remove_snapshot(&snapshot);
        }
        remove_record()?;
        self.shared.forget(&self.record.id);
        Ok(())
    }

    async fn expire(&mut self) -> Next {
        let id = self.record.id.clone();
        let outcome = match self.decide(Request::Expire) {
            Ok(Action::Pause) => self.pause_now(PauseOptions::default()).await.map(|_| Next::GoOn),
            Ok(Action::Remove) => self.remove().await.map(|()| Next::End),
            _ => Ok(Next::GoOn),
        };
        outcome.unwrap_or_else(|error| {
            tracing::warn!(sandbox = %id, %error, "a sandbox whose time is up could not be ended; trying again");
            self.not_before = Timestamp::now().checked_add(EXPIRE_AGAIN).ok();
            Next::GoOn
        })
    }

    async fn vm_ended(&mut self, reason: &ExitReason) -> Next {
        let reason = reason.to_string();
        tracing::warn!(sandbox = %self.record.id, reason, "the VM ended by itself");
        if let Err(error) = self.end_vm().await {
            tracing::warn!(sandbox = %self.record.id, %error, "what a VM left could not be cleared away");
            self.vm = None;
        }
        // Lost it is, recorded or not: recovery comes to the same from "running" without a VM.
        self.record.phase = DurablePhase::Lost { reason };
        if let Err(error) = self.save() {
            tracing::error!(sandbox = %self.record.id, %error, "the loss of a VM could not be recorded");
        }
        Next::GoOn
    }

    /// Ends the VM, if there is one, and removes its folder. After an error it may still live.
    async fn end_vm(&mut self) -> Result<()> {
        if let Some(vm) = self.vm.clone() {
            self.shared.end_vm(&vm, &self.record.id).await?;
            self.vm = None;
        }
        Ok(())
    }

    pub(super) fn running_vm(&self) -> Result<Arc<dyn Vm>> {
        self.vm.clone().ok_or_else(|| Error::WrongPhase {
            id: self.record.id.clone(),
            phase: self.record.phase.public(),
            wanted: "reached",
        })
    }

    /// Goes on in another phase, which is durable when this succeeds; else nothing changed.
    fn enter(&mut self, phase: DurablePhase) -> Result<()> {
        let before = std::mem::replace(&mut self.record.phase, phase);
        let saved = self.save();
        if saved.is_err() {
            self.record.phase = before;
            self.info.send_replace(self.record.info());
        }
        saved
    }

    /// Goes back to a phase after a failure. What is on disk may stay behind: recovery comes to the same phase.
    fn settle(&mut self, phase: DurablePhase, failure: String) {
        self.record.phase = phase;
        self.record.last_failure = Some(failure);
        if let Err(error) = self.save() {
            tracing::warn!(sandbox = %self.record.id, %error, "a failed request could not be recorded");
        }
    }

    /// Makes the record durable, then visible.
    fn save(&self) -> Result<()> {
        let saved = self.shared.save(&self.record);
        self.info.send_replace(self.record.info());
        saved
    }
}

/// The moment `timeout` from now.
pub(crate) fn in_time(timeout: Duration) -> Result<Timestamp> {
    let too_far = || Error::io("set the timeout")(std::io::ErrorKind::InvalidInput.into());
    let delta = SignedDuration::try_from(timeout).map_err(|_| too_far())?;
    Timestamp::now().checked_add(delta).map_err(|_| too_far())
}

async fn ended(vm: Option<&Arc<dyn Vm>>) -> ExitReason {
    match vm {
        Some(vm) => vm.exited().await,
        None => std::future::pending().await,
    }
}

async fn expired(time_left: Option<Duration>) {
    match time_left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
