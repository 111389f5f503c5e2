//! The daemon's view: all sandboxes, all templates, and what they share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dormouse_vmm::{Vm, Vmm};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::agent::NewLife;
use crate::sandbox::{Command, Handle, Owner, in_time};
use crate::snapshot::{RamCache, Start, Stored, restore};
use crate::state::{self, DurablePhase, SandboxRecord, StateFolder, TemplateRecord};
use crate::template::Templates;
use crate::{
    BuildProgress, BuildRequest, Built, Endpoint, Error, Inspection, Limits, NewSandbox, OpenError, PauseOptions,
    Phase, RamMap, Recovery, Result, SandboxId, SandboxInfo, Secret, SnapshotId, TemplateInfo, TemplateName,
};

/// What a host works with.
pub struct Options {
    /// The state folder; made when missing.
    pub state: PathBuf,
    /// What VMs are started with.
    pub vmm: Arc<dyn Vmm>,
    /// The static agent binary that templates are built with.
    pub agent: PathBuf,
    /// Deadlines and bounds.
    pub limits: Limits,
}

/// What [`Host::connect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// It ran already.
    WasRunning,
    /// It was paused and runs again.
    Resumed,
}

/// Everything on this machine that belongs to one state folder. Cheap to clone; all clones are the same host.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

/// What owner tasks and requests share.
pub(crate) struct Shared {
    pub(crate) folder: StateFolder,
    pub(crate) vmm: Arc<dyn Vmm>,
    pub(crate) agent_binary: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) ram_cache: Arc<RamCache>,
    pub(crate) templates: Templates,
    sandboxes: Mutex<BTreeMap<SandboxId, Handle>>,
    starting: Semaphore,
}

impl Shared {
    /// Makes a sandbox's record durable.
    pub(crate) fn save(&self, record: &SandboxRecord) -> Result<()> {
        let path = self.folder.sandbox(&record.id);
        state::write_json(&path, record).map_err(Error::io(format!("write {}", path.display())))
    }

    /// A permit to start a VM: too many at once make all of them slow.
    pub(crate) async fn start_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.starting.acquire().await.map_err(|_| Error::ShuttingDown)
    }

    /// Removes a sandbox from the list.
    pub(crate) fn forget(&self, id: &SandboxId) {
        self.sandboxes().remove(id);
    }

    /// Ends a VM, then removes its folder. As long as a VM may live its folder stays: only by that is it found again.
    pub(crate) async fn end_vm(&self, vm: &Arc<dyn Vm>, id: &SandboxId) -> Result<()> {
        vm.kill().await.map_err(Error::vmm)?;
        let run = self.folder.run(id);
        std::fs::remove_dir_all(&run).map_err(Error::io(format!("remove {}", run.display())))
    }

    /// Clears away what an ended VM may have left in a sandbox's folder.
    pub(crate) async fn clear_leftover(&self, id: &SandboxId) -> Result<()> {
        let run = self.folder.run(id);
        if !run.exists() {
            return Ok(());
        }
        // What cannot be adopted does not live: the VMM ends a process that it knows but cannot use.
        if let Ok(vm) = self.vmm.adopt(&run).await {
            vm.kill().await.map_err(Error::vmm)?;
        }
        std::fs::remove_dir_all(&run).map_err(Error::io(format!("remove {}", run.display())))
    }

    /// Removes a snapshot that nothing needs any more.
    pub(crate) fn remove_snapshot(&self, id: &SnapshotId) {
        let dir = self.folder.snapshot(id);
        let stored = Stored::open(dir.clone(), id.clone());
        if let Err(error) = crate::snapshot::remove_dir(&dir) {
            tracing::warn!(snapshot = %id, %error, "a snapshot could not be removed; the next start of the daemon does it");
        }
        // Afterwards: whoever unpacks it at the moment looks whether it is still there.
        if let Ok(stored) = stored {
            self.ram_cache.forget(stored.image_root());
        }
    }

    /// The snapshots that sandboxes depend on.
    pub(crate) fn snapshots_of_sandboxes(&self) -> Vec<SnapshotId> {
        self.sandboxes().values().filter_map(|handle| handle.info().snapshot).collect()
    }

    fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Handle>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sandbox into the list and starts its owner.
    pub(crate) fn own(self: &Arc<Self>, record: SandboxRecord, vm: Option<Arc<dyn Vm>>) -> SandboxInfo {
        let info = record.info();
        let id = record.id.clone();
        let handle = Owner::spawn(Arc::clone(self), record, vm);
        self.sandboxes().insert(id, handle);
        info
    }
}

impl Host {
    /// Opens a state folder, and with it whatever a former daemon left: running VMs are adopted, paused sandboxes
    /// are there, half-done work is undone or completed.
    ///
    /// # Errors
    /// [`OpenError`] when another daemon has the folder, or it cannot be used.
    pub async fn open(options: Options) -> std::result::Result<(Self, Recovery), OpenError> {
        let folder = StateFolder::open(&options.state)?;
        let shared = Arc::new(Shared {
            ram_cache: Arc::new(RamCache::new(folder.cache(), options.limits.image_threads)),
            templates: Templates::load(&folder),
            folder,
            vmm: options.vmm,
            agent_binary: options.agent,
            sandboxes: Mutex::default(),
            starting: Semaphore::new(options.limits.starting),
            limits: options.limits,
        });
        let recovery = crate::recovery::recover(&shared).await;
        Ok((Self { shared }, recovery))
    }

    /// Starts a new sandbox. Dropping the future removes what was started.
    ///
    /// # Errors
    /// No such template, or why the VM did not come up.
    pub async fn create(&self, new: NewSandbox) -> Result<SandboxInfo> {
        loop {
            let template = self.shared.templates.get(&new.template)?;
            let used = template.snapshot.clone();
            let origin = Origin { snapshot: template.snapshot, old_token: None, generation: 0 };
            let started = self.start(origin, new.clone()).await;
            // The template may have been rebuilt meanwhile, which removes the snapshot that was to be used.
            let rebuilt = self.shared.templates.get(&new.template).is_ok_and(|now| now.snapshot != used);
            if started.is_ok() || !rebuilt {
                return started;
            }
        }
    }

    /// The sandbox `id` as it is now.
    ///
    /// # Errors
    /// [`Error::NoSandbox`].
    pub fn get(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.handle(id).map(|h| h.info())
    }

    /// All sandboxes, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<SandboxInfo> {
        let mut all: Vec<_> = self.shared.sandboxes().values().map(Handle::info).collect();
        all.sort_by(|a, b| b.started_at.cmp(&a.started_at).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// Writes a running sandbox to disk and ends its VM. When this returns the snapshot is durable.
    ///
    /// # Errors
    /// The sandbox runs on as before, with the reason; [`Error::WrongPhase`] when it does not run.
    pub async fn pause(&self, id: &SandboxId, options: PauseOptions) -> Result<SnapshotId> {
        self.handle(id)?.ask(|reply| Command::Pause { options, reply }).await
    }

    /// Makes sure that a sandbox runs for at least `timeout` from now, resuming it if it is paused.
    ///
    /// # Errors
    /// Why it cannot be resumed; it stays paused.
    pub async fn connect(&self, id: &SandboxId, timeout: Duration) -> Result<(SandboxInfo, Connected)> {
        let handle = self.handle(id)?;
        let connected = handle.ask(|reply| Command::Connect { timeout, reply }).await?;
        Ok((handle.info(), connected))
    }

    /// Starts `count` sandboxes that continue from where this one is. A running one is paused for that and goes on.
    /// Dropping the future removes what was started.
    ///
    /// # Errors
    /// When there is nothing to fork from; each fork has its own outcome.
    pub async fn fork(&self, id: &SandboxId, count: usize, timeout: Duration) -> Result<Vec<Result<SandboxInfo>>> {
        let handle = self.handle(id)?;
        let (holding, done) = oneshot::channel();
        let source = handle.ask(|reply| Command::Fork { reply, done }).await?;
        let info = handle.info();
        let origin = Origin { snapshot: source.snapshot, old_token: Some(source.token), generation: source.generation };
        let copy = NewSandbox {
            template: info.template,
            timeout,
            on_timeout: info.on_timeout,
            metadata: info.metadata,
            env: source.env,
        };
        let forks = self.start_all(origin, copy, count).await;
        drop(holding);
        forks
    }

    /// Removes a sandbox, its VM and its snapshots for good.
    ///
    /// # Errors
    /// [`Error::NoSandbox`], or what could not be removed.
    pub async fn kill(&self, id: &SandboxId) -> Result<()> {
        self.handle(id)?.ask(|reply| Command::Remove { reply }).await
    }

    /// Lets a running sandbox's time end `timeout` from now, also if that is earlier than before.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] when it does not run.
    pub async fn set_timeout(&self, id: &SandboxId, timeout: Duration) -> Result<()> {
        self.handle(id)?.ask(|reply| Command::SetTimeout { timeout, reply }).await
    }

    /// How to reach a running sandbox's agent.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] when it does not run.
    pub async fn endpoint(&self, id: &SandboxId) -> Result<Endpoint> {
        let handle = self.handle(id)?;
        let phase = handle.info().phase;
        // The owner is busy in the phases in between; the answer is known without waiting for it.
        if phase != Phase::Running {
            return Err(Error::WrongPhase { id: id.clone(), phase, wanted: "reached" });
        }
        handle.ask(|reply| Command::Reach { reply }).await
    }

    /// What a running guest last printed on its console. Hostile bytes.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] when it does not run.
    pub async fn console(&self, id: &SandboxId) -> Result<Vec<u8>> {
        self.handle(id)?.ask(|reply| Command::Console { reply }).await
    }

    /// Builds a template, or finds that nothing changed since it was built.
    ///
    /// # Errors
    /// [`Error::Build`] with what failed; a template of that name from before stays.
    pub async fn build_template(
        &self,
        name: TemplateName,
        request: BuildRequest,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<(TemplateInfo, Built)> {
        let (record, built) = crate::template::build(&self.shared, name, request, progress).await?;
        Ok((self.describe(record), built))
    }

    /// All templates, by name.
    #[must_use]
    pub fn templates(&self) -> Vec<TemplateInfo> {
        self.shared.templates.all().into_iter().map(|t| self.describe(t)).collect()
    }

    /// Removes a template that no sandbox descends from.
    ///
    /// # Errors
    /// [`Error::NoTemplate`], [`Error::TemplateInUse`].
    pub async fn remove_template(&self, name: &TemplateName) -> Result<()> {
        let sandboxes = self.list().iter().filter(|s| s.template == *name).count();
        crate::template::remove(&self.shared, name, sandboxes).await
    }

    /// Where every byte of a snapshot's RAM went.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or how it is damaged.
    pub async fn inspect(&self, snapshot: &SnapshotId) -> Result<Inspection> {
        let stored = self.stored(snapshot)?;
        blocking(move || stored.inspect()).await
    }

    /// A snapshot's RAM as runs of pages, for drawing.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn ram_map(&self, snapshot: &SnapshotId) -> Result<RamMap> {
        let stored = self.stored(snapshot)?;
        blocking(move || stored.ram_map()).await
    }

    /// Checks every byte of a snapshot's memory image.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn verify(&self, snapshot: &SnapshotId) -> Result<()> {
        let stored = self.stored(snapshot)?;
        blocking(move || stored.verify()).await
    }

    /// Lets go of all sandboxes: no new ones start, VMs go on, and the next daemon adopts them.
    pub async fn shutdown(&self) {
        self.shared.starting.close();
        let handles: Vec<_> = std::mem::take(&mut *self.shared.sandboxes()).into_values().collect();
        for handle in handles {
            handle.let_go().await;
        }
    }

    fn handle(&self, id: &SandboxId) -> Result<Handle> {
        self.shared.sandboxes().get(id).cloned().ok_or_else(|| Error::NoSandbox(id.clone()))
    }

    fn stored(&self, id: &SnapshotId) -> Result<Stored> {
        Stored::open(self.shared.folder.snapshot(id), id.clone())
    }

    fn describe(&self, record: TemplateRecord) -> TemplateInfo {
        let base = self.shared.folder.artifacts().join(&record.machine.base_disk);
        TemplateInfo {
            snapshot_on_disk: self.stored(&record.snapshot).map(|s| s.on_disk()).unwrap_or_default(),
            name: record.name,
            created: record.created,
            vcpus: record.machine.vcpus,
            ram: record.machine.ram,
            disk: record.machine.disk,
            kernel: record.kernel_release,
            snapshot: record.snapshot,
            base_on_disk: crate::snapshot::allocated(&base),
        }
    }

    /// Starts one sandbox.
    async fn start(&self, origin: Origin, new: NewSandbox) -> Result<SandboxInfo> {
        self.start_all(origin, new, 1).await?.pop().unwrap_or(Err(Error::ShuttingDown))
    }

    /// Starts equal sandboxes in a task of its own, so that a caller that goes away leaves either whole sandboxes, which
    /// are then removed, or nothing.
    async fn start_all(&self, origin: Origin, new: NewSandbox, count: usize) -> Result<Vec<Result<SandboxInfo>>> {
        let host = self.clone();
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let starts = (0..count).map(|_| host.start_now(&origin, new.clone()));
            let started = futures_util::future::join_all(starts).await;
            for unwanted in reply.send(started).err().into_iter().flatten().flatten() {
                if let Err(error) = host.kill(&unwanted.id).await {
                    tracing::warn!(sandbox = %unwanted.id, %error, "a sandbox whose caller went away could not be removed");
                }
            }
        });
        answer.await.map_err(|_| Error::ShuttingDown)
    }

    async fn start_now(&self, origin: &Origin, new: NewSandbox) -> Result<SandboxInfo> {
        let random = |e: getrandom::Error| Error::Vmm(format!("no random bytes on the host: {e}"));
        let stored = self.stored(&origin.snapshot)?;
        let now = Timestamp::now();
        let mut record = SandboxRecord {
            id: SandboxId::random().map_err(random)?,
            template: new.template,
            phase: DurablePhase::Creating,
            last_failure: None,
            started_at: now,
            end_at: now,
            on_timeout: new.on_timeout,
            metadata: new.metadata,
            env: new.env,
            token: Secret::random().map_err(random)?,
            generation: origin.generation + 1,
            machine: stored.machine.clone(),
            snapshot: None,
        };
        let end_at = in_time(new.timeout)?;
        let permit = self.shared.start_permit().await?;
        self.shared.save(&record)?;
        let start = Start {
            stored: &stored,
            run: self.shared.folder.run(&record.id),
            old_token: origin.old_token.clone(),
            life: NewLife {
                token: &record.token,
                env: &record.env,
                hostname: record.id.as_str(),
                generation: record.generation,
                now,
            },
        };
        let vm = match restore(&self.shared, &start).await {
            Ok(vm) => vm,
            Err(error) => {
                // The next start of the daemon removes a record that stays.
                let _ = state::remove_file(&self.shared.folder.sandbox(&record.id));
                return Err(error);
            }
        };
        drop(permit);
        record.end_at = end_at;
        record.phase = DurablePhase::Running;
        if let Err(error) = self.shared.save(&record) {
            self.shared.end_vm(&vm, &record.id).await?;
            let _ = state::remove_file(&self.shared.folder.sandbox(&record.id));
            return Err(error);
        }
        Ok(self.shared.own(record, Some(vm)))
    }
}

/// What a new sandbox starts from.
#[derive(Clone)]
struct Origin {
    snapshot: SnapshotId,
    old_token: Option<Secret>,
    /// How many lives the agent in the snapshot has had.
    generation: u64,
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::ShuttingDown))
}
