//! The host that the bench works with, and its sandboxes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use dormouse_lifecycle::{Host, SandboxId, SandboxInfo};
use dormouse_vm_tests::{Guest, host_with, new_sandbox, scratch, vmm};
use tempfile::TempDir;

use crate::block_hashes::BlockHashes;
use crate::store::{Store, Stored};
use crate::watch::{Sight, Watcher};

/// A host whose VMs can be looked at.
pub(crate) struct Lab {
    pub(crate) host: Host,
    pub(crate) watcher: Arc<Watcher>,
    /// For copies of RAM.
    pub(crate) scratch: TempDir,
    store: OnceLock<(Store, Stored)>,
    fixed_disks: Mutex<BTreeMap<PathBuf, Arc<BlockHashes>>>,
}

/// A sandbox that runs, and a way into it.
pub(crate) struct Running {
    pub(crate) info: SandboxInfo,
    pub(crate) guest: Guest,
}

impl Lab {
    /// Opens the state folder of the scenarios and builds its template if need be.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let watcher = Arc::new(Watcher::new(vmm().await));
        let host = host_with(Arc::<Watcher>::clone(&watcher)).await;
        Ok(Self { host, watcher, scratch: scratch(), store: OnceLock::new(), fixed_disks: Mutex::default() })
    }

    /// A new sandbox.
    pub(crate) async fn sandbox(&self) -> anyhow::Result<Running> {
        let info = self.host.create(new_sandbox()).await?;
        self.running(&info.id).await
    }

    /// A sandbox that runs already.
    pub(crate) async fn running(&self, id: &SandboxId) -> anyhow::Result<Running> {
        Ok(Running { info: self.host.get(id)?, guest: Guest::of(&self.host, id).await })
    }

    /// The blocks of a disk that never changes.
    pub(crate) fn blocks_of(&self, disk: &PathBuf) -> anyhow::Result<Arc<BlockHashes>> {
        let mut known = self.fixed_disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blocks) = known.get(disk) {
            return Ok(Arc::clone(blocks));
        }
        let mut blocks = BlockHashes::default();
        blocks.add(disk)?;
        let blocks = Arc::new(blocks);
        known.insert(disk.clone(), Arc::clone(&blocks));
        Ok(blocks)
    }

    /// The bench's own store, and in it the template as `sight` was restored from it. Made when it is first asked for.
    pub(crate) fn store(&self, sight: &Sight) -> anyhow::Result<(&Store, &Stored)> {
        if let Some((store, template)) = self.store.get() {
            return Ok((store, template));
        }
        let base = sight.fixed_disks.first().context("the VM has no base disk")?;
        let before = sight.before.as_ref().context("the VM was not restored")?;
        let store = Store::new(self.scratch.path().join("store"), base.clone())?;
        let template = store.store_template(before, &sight.layout)?;
        let (store, template) = self.store.get_or_init(|| (store, template));
        Ok((store, template))
    }

    /// Removes all sandboxes.
    pub(crate) async fn close(&self) {
        for sandbox in self.host.list() {
            self.remove(&sandbox.id).await;
        }
    }

    /// Removes a sandbox; one that cannot be removed now is removed by the next run.
    pub(crate) async fn remove(&self, id: &SandboxId) {
        if let Err(error) = self.host.kill(id).await {
            eprintln!("sandbox {id} could not be removed: {error}");
        }
    }
}
