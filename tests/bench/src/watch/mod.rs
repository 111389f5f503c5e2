//! A VMM between the host and QEMU, through which the bench sees the very RAM that a snapshot is taken of.

mod sight;
mod vm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, RamLayout};
use dormouse_lifecycle::SandboxId;
use dormouse_vmm::{Boot, Fingerprint, Result, Vm, VmSpec, Vmm};

pub(crate) use sight::Sight;
use vm::WatchedVm;

/// Starts VMs with another VMM, and looks at a VM when it is stopped if that was asked for.
pub(crate) struct Watcher {
    inner: Arc<dyn Vmm>,
    eye: Arc<Eye>,
}

/// What is done with a VM at its next stop.
type Look = Box<dyn FnOnce(&dyn Vm) -> anyhow::Result<()> + Send>;

/// What all VMs of a watcher share.
#[derive(Default)]
struct Eye {
    vms: Mutex<BTreeMap<PathBuf, Arc<dyn Vm>>>,
    look: Mutex<Option<Look>>,
}

impl Watcher {
    pub(crate) fn new(inner: Arc<dyn Vmm>) -> Self {
        Self { inner, eye: Arc::default() }
    }

    /// Does `look` with the next VM that is stopped, before whoever stopped it goes on. Gives what it found.
    pub(crate) fn at_next_stop<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Vm) -> anyhow::Result<T> + Send + 'static,
    ) -> Receiver<T> {
        let (found, receiver) = channel();
        *lock(&self.eye.look) = Some(Box::new(move |vm| {
            // Nobody listens any more when the measurement was given up.
            let _ = found.send(look(vm)?);
            Ok(())
        }));
        receiver
    }

    /// The VM of a sandbox that runs.
    pub(crate) fn vm(&self, sandbox: &SandboxId) -> anyhow::Result<Arc<dyn Vm>> {
        let vms = lock(&self.eye.vms);
        let of_sandbox = vms.iter().find(|(dir, _)| dir.file_name().is_some_and(|name| name == sandbox.as_str()));
        of_sandbox.map(|(_, vm)| Arc::clone(vm)).with_context(|| format!("sandbox {sandbox} has no VM"))
    }

    fn watched(&self, dir: &Path, vm: Arc<dyn Vm>) -> Arc<dyn Vm> {
        let watched: Arc<dyn Vm> = Arc::new(WatchedVm { inner: vm, eye: Arc::clone(&self.eye) });
        lock(&self.eye.vms).insert(dir.to_owned(), Arc::clone(&watched));
        watched
    }
}

#[async_trait]
impl Vmm for Watcher {
    fn fingerprint(&self, spec: &VmSpec) -> Fingerprint {
        self.inner.fingerprint(spec)
    }

    fn layout(&self, ram: Bytes) -> Result<RamLayout> {
        self.inner.layout(ram)
    }

    async fn boot(&self, dir: &Path, spec: &VmSpec, boot: &Boot) -> Result<Arc<dyn Vm>> {
        Ok(self.watched(dir, self.inner.boot(dir, spec, boot).await?))
    }

    async fn restore(&self, dir: &Path, spec: &VmSpec, state: &Path, ram: &Path) -> Result<Arc<dyn Vm>> {
        Ok(self.watched(dir, self.inner.restore(dir, spec, state, ram).await?))
    }

    async fn adopt(&self, dir: &Path) -> Result<Arc<dyn Vm>> {
        Ok(self.watched(dir, self.inner.adopt(dir).await?))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
