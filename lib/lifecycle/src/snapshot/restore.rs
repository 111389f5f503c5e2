//! Starting a VM from a snapshot.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_vmm::{Vm, VmmError};

use super::{Stored, copy_disk, device_state, parent};
use crate::agent::{Agent, NewLife};
use crate::host::Shared;
use crate::{Error, Result, Secret};

/// Names within a VM's folder.
pub(crate) const OVERLAY: &str = "overlay.ext4";
const BASE_RAM: &str = "base.ram";
const DEVICE_STATE: &str = "restore.state";
/// Other processes may take a port between our look and the VMM's bind.
const PORT_TRIES: usize = 5;

/// What is started, and as what.
pub(crate) struct Start<'a> {
    pub(crate) stored: &'a Stored,
    /// Folder for the VM; made here, and removed again when this fails.
    pub(crate) run: PathBuf,
    /// The token that the agent in the snapshot wants, if it was given one.
    pub(crate) old_token: Option<Secret>,
    pub(crate) life: NewLife<'a>,
}

/// Starts a VM from a snapshot and waits until its agent has taken up its new life. On failure nothing is left.
pub(crate) async fn restore(shared: &Arc<Shared>, start: &Start<'_>) -> Result<Arc<dyn Vm>> {
    let run = Made::create(&start.run)?;
    let started = start_vm(shared, start.stored, &start.run).await;
    let vm = started.inspect_err(|_| shared.packs.run_is_gone(&start.run))?;
    // From here on the folder goes only after the VM: it is what a later daemon would find the VM by.
    run.keep();
    let ready = async {
        vm.resume().await.map_err(Error::vmm)?;
        let agent = Agent::new(vm.agent_addr(), start.old_token.clone());
        agent.wait_ready(shared.limits.resume).await?;
        agent.init(&start.life, shared.limits.resume).await
    };
    let outcome = tokio::select! {
        outcome = ready => outcome,
        reason = vm.exited() => Err(Error::Vmm(reason.to_string())),
    };
    if let Err(error) = outcome {
        discard(&vm, &start.run).await;
        shared.packs.run_is_gone(&start.run);
        return Err(error);
    }
    Ok(vm)
}

/// Ends a VM that is not needed, and removes its folder.
pub(crate) async fn discard(vm: &Arc<dyn Vm>, run: &Path) {
    let ended = vm.kill().await.map_err(Error::vmm);
    let removed = ended.and_then(|()| fs::remove_dir_all(run).map_err(Error::io(format!("remove {}", run.display()))));
    if let Err(error) = removed {
        tracing::error!(%error, "a VM could not be cleared away; the next start of the daemon does it");
    }
}

/// Lays out the VM's folder and restores the VM in it, paused.
async fn start_vm(shared: &Arc<Shared>, stored: &Stored, run: &Path) -> Result<Arc<dyn Vm>> {
    let artifacts = shared.folder.artifacts();
    let spec_at = |port| stored.machine.spec(&artifacts, run.join(OVERLAY), port);
    stored.check_fingerprint(&shared.vmm.fingerprint(&spec_at(1)))?;
    stored.check_files()?;

    parent::remember(stored, run, &shared.packs)?;
    let base_ram = run.join(BASE_RAM);
    let (source, folder) = (stored.clone(), run.to_owned());
    let disks = crate::blocking(move || lay_out(&source, &folder));
    let (linked, laid_out) = tokio::join!(shared.ram_cache.link(stored, &base_ram), disks);
    linked?;
    laid_out?;

    let state = run.join(DEVICE_STATE);
    for _ in 0..PORT_TRIES {
        match shared.vmm.restore(run, &spec_at(free_port()?), &state, &base_ram).await {
            Err(VmmError::HostPortTaken { port }) => tracing::debug!(port, "port taken meanwhile, trying another"),
            Err(VmmError::StateRefused { reason, .. }) => return Err(stored.unusable(reason.to_string())),
            other => {
                // Only needed while the VM loads it.
                let _ = fs::remove_file(&state);
                return other.map_err(Error::vmm);
            }
        }
    }
    Err(Error::Vmm(format!("no free port on the loopback after {PORT_TRIES} tries")))
}

fn lay_out(stored: &Stored, run: &Path) -> Result<()> {
    copy_disk(&stored.overlay_file(), &run.join(OVERLAY))?;
    let packed = stored.dir.join(super::stored::DEVICE_STATE);
    device_state::unpack(&packed, &stored.packed_device_state(), &run.join(DEVICE_STATE))
        .map_err(|e| stored.unusable(e.to_string()))
}

/// A port of the loopback that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    Ok(listener.map_err(Error::io("look for a free port"))?.port())
}

/// A folder that is removed again unless it is kept.
pub(crate) struct Made<'a> {
    dir: Option<&'a Path>,
}

impl<'a> Made<'a> {
    pub(crate) fn create(dir: &'a Path) -> Result<Self> {
        fs::create_dir(dir).map_err(Error::io(format!("create {}", dir.display())))?;
        Ok(Self { dir: Some(dir) })
    }

    pub(crate) fn keep(mut self) {
        self.dir = None;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let removed = self.dir.map_or(Ok(()), fs::remove_dir_all);
        if let Err(error) = removed {
            tracing::warn!(%error, "a VM's folder could not be removed; the next start of the daemon does it");
        }
    }
}
