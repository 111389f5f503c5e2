//! What is written down about sandboxes and templates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use dormouse_vmm::{Disk, MacAddr, UserNet, VmSpec};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{OnTimeout, Phase, SandboxId, SandboxInfo, Secret, SnapshotId, TemplateName};

/// Port of the agent inside every guest (E2B's envd uses the same).
const AGENT_PORT: u16 = 49983;
/// All guests have the same hardware address: each is alone on its user-mode network, and a restored guest
/// cannot be given another.
const MAC: MacAddr = MacAddr([0x52, 0x54, 0x00, 0x64, 0x6d, 0x01]);

/// The hardware of a sandbox: everything of a VM's specification that a snapshot depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) vcpus: u8,
    pub(crate) ram: Bytes,
    pub(crate) five_level_paging: bool,
    /// Virtual size of the overlay disk.
    pub(crate) disk: Bytes,
    /// The read-only base disk, as a path below `artifacts/`.
    pub(crate) base_disk: PathBuf,
}

impl Machine {
    /// The VM specification for a VM whose files lie in `run`, reached through `host_port`.
    pub(crate) fn spec(&self, artifacts: &Path, overlay: PathBuf, host_port: u16) -> VmSpec {
        VmSpec {
            vcpus: self.vcpus,
            ram: self.ram,
            five_level_paging: self.five_level_paging,
            disks: vec![
                Disk { id: "base".into(), file: artifacts.join(&self.base_disk), read_only: true },
                Disk { id: "overlay".into(), file: overlay, read_only: false },
            ],
            net: UserNet { host_port, guest_port: AGENT_PORT, mac: MAC },
        }
    }
}

/// A phase that a crash can leave behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DurablePhase {
    Creating,
    Running,
    /// `pending` may or may not have been published when the daemon died.
    Pausing {
        pending: SnapshotId,
    },
    Paused,
    Resuming,
    Lost {
        reason: String,
    },
    /// Being removed for good; recovery finishes that.
    Removing,
}

impl DurablePhase {
    pub(crate) fn public(&self) -> Phase {
        match self {
            Self::Creating => Phase::Creating,
            Self::Running => Phase::Running,
            Self::Pausing { .. } => Phase::Pausing,
            Self::Paused => Phase::Paused,
            Self::Resuming => Phase::Resuming,
            Self::Lost { .. } | Self::Removing => Phase::Lost,
        }
    }
}

/// Everything durable about one sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    pub(crate) template: TemplateName,
    pub(crate) phase: DurablePhase,
    /// Why the last pause or resume failed.
    pub(crate) last_failure: Option<String>,
    pub(crate) started_at: Timestamp,
    pub(crate) end_at: Timestamp,
    pub(crate) on_timeout: OnTimeout,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) token: Secret,
    /// Counts restores: tells the agent that it is a new life.
    pub(crate) generation: u64,
    pub(crate) machine: Machine,
    /// The newest published snapshot.
    pub(crate) snapshot: Option<SnapshotId>,
}

impl SandboxRecord {
    /// What callers see.
    pub(crate) fn info(&self) -> SandboxInfo {
        let reason = match &self.phase {
            DurablePhase::Lost { reason } => Some(reason.clone()),
            _ => self.last_failure.clone(),
        };
        SandboxInfo {
            id: self.id.clone(),
            template: self.template.clone(),
            phase: self.phase.public(),
            reason,
            started_at: self.started_at,
            end_at: self.end_at,
            on_timeout: self.on_timeout,
            metadata: self.metadata.clone(),
            vcpus: self.machine.vcpus,
            ram: self.machine.ram,
            disk: self.machine.disk,
            snapshot: self.snapshot.clone(),
            token: self.token.clone(),
        }
    }
}

/// Everything durable about a snapshot that callers keep, but the snapshot itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRecord {
    pub(crate) id: SnapshotId,
    pub(crate) sandbox: SandboxId,
    pub(crate) template: TemplateName,
    pub(crate) name: Option<TemplateName>,
    pub(crate) created: Timestamp,
    /// What the agent in the snapshot wants.
    pub(crate) token: Secret,
    /// How many lives that agent has had.
    pub(crate) generation: u64,
    pub(crate) env: BTreeMap<String, String>,
}

/// Everything durable about one template.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateRecord {
    pub(crate) name: TemplateName,
    pub(crate) created: Timestamp,
    pub(crate) machine: Machine,
    pub(crate) kernel_release: String,
    pub(crate) snapshot: SnapshotId,
    /// Changes when anything changes that the snapshot was made from.
    pub(crate) inputs: String,
}
