//! Building a template: artifacts, one boot, one snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_templates::Artifacts;
use dormouse_vmm::{Boot, Vm, VmSpec, VmmError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::host::Shared;
use crate::snapshot::{Made, OVERLAY, Stored, Subject, discard, free_port, take};
use crate::state::{Machine, TemplateRecord};
use crate::{BuildProgress, Error, PauseOptions, Recipe, Result, SnapshotId, TemplateName};

/// Kernel arguments of every guest. `panic=-1` with the VMM's no-reboot turns a kernel panic into an ended VM.
const KERNEL_ARGS: &str = "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable mitigations=off";
/// The user-mode network's fixed addresses (QEMU's defaults).
const NETWORK_ARGS: &str = "dormouse.ip=10.0.2.15/24 dormouse.gw=10.0.2.2";
/// How often a waiting build looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(200);
const PORT_TRIES: usize = 5;

/// What a template is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildRequest {
    /// Root file system, kernel and disk.
    pub recipe: Recipe,
    /// Virtual CPUs of its sandboxes.
    pub vcpus: u8,
    /// Guest RAM of its sandboxes.
    pub ram: Bytes,
    /// Whether the guest's CPU offers 5-level page tables.
    pub five_level_paging: bool,
    /// More arguments for the guest's kernel.
    pub kernel_args: String,
}

impl Default for BuildRequest {
    fn default() -> Self {
        Self {
            recipe: Recipe::base(),
            vcpus: 1,
            ram: Bytes::mib(1024),
            five_level_paging: true,
            kernel_args: String::new(),
        }
    }
}

/// Whether a build had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Built {
    /// A new snapshot was taken.
    New,
    /// Everything was as when the template was built.
    Unchanged,
}

/// Builds a template. On failure, or when cancelled, a template of that name from before stays as it was.
pub(crate) async fn build(
    shared: &Arc<Shared>,
    name: TemplateName,
    request: BuildRequest,
    progress: Arc<dyn BuildProgress>,
) -> Result<(TemplateRecord, Built)> {
    let artifacts = make_artifacts(shared, &name, &request, &progress).await?;
    let base_disk = artifacts.base_disk.strip_prefix(shared.folder.artifacts());
    let machine = Machine {
        vcpus: request.vcpus,
        ram: request.ram,
        five_level_paging: request.five_level_paging,
        disk: request.recipe.disk,
        base_disk: base_disk.map_err(|e| Error::Build(e.to_string()))?.to_owned(),
    };
    let inputs = inputs(shared, &artifacts, &machine, &request);
    if let Ok(record) = shared.templates.get(&name)
        && record.inputs == inputs
        && Stored::open(shared.folder.snapshot(&record.snapshot), record.snapshot.clone()).is_ok()
    {
        progress.step("snapshot: unchanged");
        return Ok((record, Built::Unchanged));
    }
    let stored = boot_and_snapshot(shared, &name, &request, &artifacts, &machine, &*progress).await?;
    let record = TemplateRecord {
        name,
        created: Timestamp::now(),
        machine,
        kernel_release: artifacts.kernel_release,
        snapshot: stored.id.clone(),
        inputs,
    };
    match shared.templates.publish(&shared.folder, record.clone()) {
        Ok(replaced) => {
            shared.remote.snapshot_is_there(&stored);
            if let Some(old) = replaced {
                shared.remove_snapshot(&old.snapshot);
            }
            Ok((record, Built::New))
        }
        Err(error) => {
            shared.remove_snapshot(&stored.id);
            Err(error)
        }
    }
}

async fn make_artifacts(
    shared: &Arc<Shared>,
    name: &TemplateName,
    request: &BuildRequest,
    progress: &Arc<dyn BuildProgress>,
) -> Result<Artifacts> {
    let (shared, recipe, progress) = (Arc::clone(shared), request.recipe.clone(), Arc::clone(progress));
    let scratch = shared.folder.staging().join(format!("build-{name}"));
    crate::blocking(move || {
        let _one_at_a_time = shared.templates.building();
        std::fs::create_dir_all(&scratch).map_err(Error::io(format!("create {}", scratch.display())))?;
        let store = shared.folder.artifacts();
        let made = dormouse_templates::build(&recipe, &shared.agent_binary, &store, &scratch, &*progress);
        // Empty after a success; after a failure the next start of the daemon clears what cannot be removed now.
        let _ = std::fs::remove_dir_all(&scratch);
        made.map_err(|e| if progress.cancelled() { Error::Cancelled } else { Error::Build(e.to_string()) })
    })
    .await
}

/// A text that changes when anything changes that the snapshot depends on.
fn inputs(shared: &Shared, artifacts: &Artifacts, machine: &Machine, request: &BuildRequest) -> String {
    let spec = machine.spec(Path::new(""), PathBuf::new(), 1);
    let fingerprint = shared.vmm.fingerprint(&spec);
    let text = format!("{}\n{machine:?}\n{fingerprint:?}\n{}\n{KERNEL_ARGS}", artifacts.id, request.kernel_args);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

async fn boot_and_snapshot(
    shared: &Arc<Shared>,
    name: &TemplateName,
    request: &BuildRequest,
    artifacts: &Artifacts,
    machine: &Machine,
    progress: &dyn BuildProgress,
) -> Result<Stored> {
    let id = SnapshotId::random().map_err(|e| Error::Build(e.to_string()))?;
    let run = shared.folder.runs().join(format!("build-{name}"));
    let made = Made::create(&run)?;
    let overlay = run.join(OVERLAY);
    let (from, to) = (artifacts.overlay_disk.clone(), overlay.clone());
    crate::blocking(move || crate::snapshot::copy_disk(&from, &to)).await?;

    progress.step("booting");
    let boot = Boot {
        kernel: artifacts.kernel.clone(),
        initramfs: artifacts.initramfs.clone(),
        cmdline: format!("{KERNEL_ARGS} {NETWORK_ARGS} dormouse.hostname={name} {}", request.kernel_args),
    };
    let _one_of_few = shared.start_permit().await?;
    let spec_at = |port| machine.spec(&shared.folder.artifacts(), overlay.clone(), port);
    let vm = boot_vm(shared, &run, &boot, spec_at).await?;
    made.keep();
    let agent = Agent::new(vm.agent_addr(), None);
    let subject =
        Subject { vm: &vm, agent: &agent, machine, template: name, parent: None, run: &run, overlay: &overlay };
    let ready = tokio::select! {
        ready = agent.wait_ready(shared.limits.boot) => ready,
        reason = vm.exited() => Err(Error::Build(format!("the guest did not come up: {reason}"))),
        () = cancelled(progress) => Err(Error::Cancelled),
    };
    let outcome = match ready {
        Ok(()) => {
            progress.step("taking the snapshot");
            take(shared, &subject, PauseOptions::default(), &id).await
        }
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Err(Error::Agent { step, reason }) => {
            let console = String::from_utf8_lossy(&vm.console_tail(2000).await).into_owned();
            Err(Error::Build(format!(
                "the guest's agent failed at {step}: {reason}; the guest last printed:\n{console}"
            )))
        }
        other => other,
    };
    discard(&vm, &run).await;
    outcome
}

async fn boot_vm(
    shared: &Arc<Shared>,
    run: &Path,
    boot: &Boot,
    spec_at: impl Fn(u16) -> VmSpec,
) -> Result<Arc<dyn Vm>> {
    for _ in 0..PORT_TRIES {
        match shared.vmm.boot(run, &spec_at(free_port()?), boot).await {
            Err(VmmError::HostPortTaken { port }) => tracing::debug!(port, "port taken meanwhile, trying another"),
            other => return other.map_err(Error::vmm),
        }
    }
    Err(Error::Vmm(format!("no free port on the loopback after {PORT_TRIES} tries")))
}

async fn cancelled(progress: &dyn BuildProgress) {
    while !progress.cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}
