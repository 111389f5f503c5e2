//! The daemon's view: all sandboxes, all templates, and what they share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dormouse_store::Pins;
use dormouse_vmm::{Vm, Vmm};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};

use crate::compaction::{Compactor, Held, Readers};
use crate::kept::{self, Kept};
use crate::sandbox::{Command, Handle, Owner};
use crate::snapshot::{BaseIndexes, Behind, PackFolder, RamCache, Stored};
use crate::start::Origin;
use crate::state::{self, SandboxRecord, StateFolder, TemplateRecord};
use crate::template::Templates;
use crate::{
    BuildProgress, BuildRequest, Built, Endpoint, Error, Inspection, Limits, NewSandbox, OpenError, PauseOptions,
    Phase, RamMap, Recovery, RemoteSetup, Result, SandboxId, SandboxInfo, SnapshotId, SnapshotInfo, TemplateInfo,
    TemplateName,
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
    /// Where snapshots go up to, if anywhere.
    pub remote: Option<RemoteSetup>,
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
    pub(crate) shared: Arc<Shared>,
}

/// What owner tasks and requests share.
pub(crate) struct Shared {
    pub(crate) folder: StateFolder,
    pub(crate) vmm: Arc<dyn Vmm>,
    pub(crate) agent_binary: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) packs: PackFolder,
    pub(crate) remote: Behind,
    pub(crate) base_indexes: BaseIndexes,
    pub(crate) ram_cache: Arc<RamCache>,
    pub(crate) templates: Templates,
    pub(crate) kept: Kept,
    /// Held while the store is checked.
    pub(crate) verifying: tokio::sync::Mutex<()>,
    /// Held while it is found out anew what is needed.
    pub(crate) collecting: tokio::sync::Mutex<()>,
    pub(crate) readers: Readers,
    pub(crate) compactor: Compactor,
    sandboxes: Mutex<BTreeMap<SandboxId, Handle>>,
    starting: Semaphore,
    copying: Arc<Semaphore>,
}

impl Shared {
    /// Makes a sandbox's record durable.
    pub(crate) fn save(&self, record: &SandboxRecord) -> Result<()> {
        let path = self.folder.sandbox(&record.id);
        state::write_json(&path, record).map_err(Error::io(format!("write {}", path.display())))
    }

    /// Gets what a snapshot's RAM is unpacked from, unless that was done already. Waits for the remote as long as it takes, so
    /// it comes before a permit to start.
    pub(crate) async fn fetch(&self, stored: &Stored) -> Result<Option<Pins>> {
        if self.ram_cache.has(stored.image_root()) { Ok(None) } else { self.remote.fetch(stored).await }
    }

    /// A permit to start a VM: too many at once make all of them slow.
    pub(crate) async fn start_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.starting.acquire().await.map_err(|_| Error::ShuttingDown)
    }

    /// A permit to hold a copy of a guest's RAM in memory.
    pub(crate) async fn copy_permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.copying).acquire_owned().await.map_err(|_| Error::ShuttingDown)
    }

    /// Removes a sandbox from the list.
    pub(crate) fn forget(&self, id: &SandboxId) {
        self.sandboxes().remove(id);
    }

    /// Ends a VM, then removes its folder. As long as a VM may live its folder stays: only by that is it found again.
    pub(crate) async fn end_vm(&self, vm: &Arc<dyn Vm>, id: &SandboxId) -> Result<()> {
        vm.kill().await.map_err(Error::vmm)?;
        let run = self.folder.run(id);
        std::fs::remove_dir_all(&run).map_err(Error::io(format!("remove {}", run.display())))?;
        self.packs.run_is_gone(&run);
        self.remote.trim();
        Ok(())
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
        std::fs::remove_dir_all(&run).map_err(Error::io(format!("remove {}", run.display())))?;
        self.packs.run_is_gone(&run);
        Ok(())
    }

    /// Removes a snapshot that nothing needs any more.
    pub(crate) fn remove_snapshot(&self, id: &SnapshotId) {
        let dir = self.folder.snapshot(id);
        self.compactor.give_up(id);
        let swapping = self.packs.swapping();
        let stored = Stored::open(dir.clone(), id.clone());
        let removed = crate::snapshot::remove_dir(&dir).inspect(|()| self.packs.snapshot_is_gone(id));
        drop(swapping);
        match removed {
            Ok(()) => {
                self.remote.snapshot_is_gone(id);
                self.packs.collect();
            }
            Err(error) => {
                tracing::warn!(snapshot = %id, %error, "a snapshot could not be removed; the next start of the daemon does it");
            }
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
        let path = folder.packs();
        let packs = PackFolder::open(&path).map_err(|e| OpenError::Io { path, source: std::io::Error::other(e) })?;
        let started = Behind::start(options.remote, packs.packs(), &folder.uploaded(), options.limits.fetch).await;
        let (remote, remote_found) = started.map_err(OpenError::Remote)?;
        let threads = options.limits.image_threads;
        let shared = Arc::new(Shared {
            ram_cache: Arc::new(RamCache::new(folder.cache(), folder.artifacts(), packs.clone(), threads)),
            base_indexes: BaseIndexes::new(folder.disk_indexes(), threads),
            packs,
            remote,
            templates: Templates::load(&folder),
            kept: Kept::load(&folder),
            folder,
            vmm: options.vmm,
            agent_binary: options.agent,
            verifying: tokio::sync::Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
            readers: Readers::default(),
            compactor: Compactor::default(),
            sandboxes: Mutex::default(),
            starting: Semaphore::new(options.limits.starting),
            copying: Arc::new(Semaphore::new(options.limits.copies)),
            limits: options.limits,
        });
        let mut recovery = crate::recovery::recover(&shared).await;
        recovery.remote = remote_found;
        shared.compactor.start(&shared);
        Ok((Self { shared }, recovery))
    }

    /// Starts a new sandbox. Dropping the future removes what was started.
    ///
    /// # Errors
    /// No such template or kept snapshot, or why the VM did not come up.
    pub async fn create(&self, new: NewSandbox) -> Result<SandboxInfo> {
        loop {
            let template = match self.shared.templates.get(&new.template) {
                Ok(template) => template,
                Err(unknown) => match self.shared.kept.find(new.template.as_str()) {
                    Some(kept) => return self.start(Origin::kept(kept), new).await,
                    None => return Err(unknown),
                },
            };
            let used = template.snapshot.clone();
            let started = self.start(Origin::template(template.name, template.snapshot), new.clone()).await;
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

    /// Starts `count` sandboxes that continue from where this one is. A running one is stopped for a moment and goes on.
    /// Dropping the future removes what was started.
    ///
    /// # Errors
    /// When there is nothing to fork from; each fork has its own outcome.
    pub async fn fork(&self, id: &SandboxId, count: usize, timeout: Duration) -> Result<Vec<Result<SandboxInfo>>> {
        let handle = self.handle(id)?;
        let (holding, done) = oneshot::channel();
        let source = handle.ask(|reply| Command::Fork { reply, done }).await?;
        let info = handle.info();
        let origin = Origin::sandbox(info.template.clone(), source);
        let copy = NewSandbox {
            template: info.template,
            timeout,
            on_timeout: info.on_timeout,
            metadata: info.metadata,
            env: BTreeMap::new(),
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

    /// Takes a snapshot of a running sandbox, which is stopped for a moment and goes on. The snapshot stays until it is
    /// removed, whatever becomes of the sandbox; [`create`](Self::create) starts sandboxes from it, by its id or `name`.
    /// When this returns the snapshot is durable. Dropping the future removes it.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] when it does not run, [`Error::NameTaken`] by a template, or why no snapshot could be taken;
    /// the sandbox runs on in any case.
    pub async fn checkpoint(&self, id: &SandboxId, name: Option<TemplateName>) -> Result<SnapshotInfo> {
        let handle = self.handle(id)?;
        if let Some(name) = name.as_ref().filter(|name| self.shared.templates.get(name).is_ok()) {
            return Err(Error::NameTaken(name.clone()));
        }
        let permit = self.shared.copy_permit().await?;
        handle.ask(|reply| Command::Checkpoint { name, permit, reply }).await
    }

    /// All kept snapshots, newest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        kept::list(&self.shared)
    }

    /// Removes a kept snapshot, named by its id, or by its name if that is the newest of that name.
    ///
    /// # Errors
    /// [`Error::NoKeptSnapshot`], or what could not be removed.
    pub async fn remove_snapshot(&self, id_or_name: &str) -> Result<()> {
        let none = || Error::NoKeptSnapshot(id_or_name.to_owned());
        let id = self.shared.kept.find(id_or_name).ok_or_else(none)?.id;
        let shared = Arc::clone(&self.shared);
        blocking(move || kept::remove(&shared, &id)).await
    }

    /// Where every byte of a snapshot's RAM went.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or how it is damaged.
    pub async fn inspect(&self, snapshot: &SnapshotId) -> Result<Inspection> {
        let ((stored, held), remote) = (self.read(snapshot)?, self.shared.remote.clone());
        let look = move || {
            let _held = held;
            Ok(Inspection { remote: remote.copy_of(&stored), ..stored.inspect()? })
        };
        blocking(look).await
    }

    /// A snapshot's RAM as runs of pages, for drawing.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn ram_map(&self, snapshot: &SnapshotId) -> Result<RamMap> {
        let (stored, held) = self.read(snapshot)?;
        let look = move || {
            let _held = held;
            stored.ram_map()
        };
        blocking(look).await
    }

    /// Checks every byte of a snapshot's memory image.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn verify(&self, snapshot: &SnapshotId) -> Result<()> {
        let (stored, held) = self.read(snapshot)?;
        let _packs = self.shared.remote.fetch(&stored).await?;
        let shared = Arc::clone(&self.shared);
        let check = move || {
            let _held = held;
            stored.verify(&shared.folder.artifacts(), &shared.packs, shared.limits.image_threads)
        };
        blocking(check).await
    }

    /// Lets go of all sandboxes: no new ones start, VMs go on, and the next daemon adopts them.
    pub async fn shutdown(&self) {
        self.shared.starting.close();
        // First: a compaction may wait for packs too.
        self.shared.remote.end();
        self.shared.compactor.stop().await;
        let handles: Vec<_> = std::mem::take(&mut *self.shared.sandboxes()).into_values().collect();
        for handle in handles {
            handle.let_go().await;
        }
    }

    fn handle(&self, id: &SandboxId) -> Result<Handle> {
        self.shared.sandboxes().get(id).cloned().ok_or_else(|| Error::NoSandbox(id.clone()))
    }

    /// A snapshot whose files stay as long as it is held.
    fn read(&self, id: &SnapshotId) -> Result<(Stored, Held)> {
        let held = self.shared.readers.hold(id);
        self.stored(id).map(|stored| (stored, held))
    }

    pub(crate) fn stored(&self, id: &SnapshotId) -> Result<Stored> {
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
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::ShuttingDown))
}
