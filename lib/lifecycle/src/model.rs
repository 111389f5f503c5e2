//! What callers see of sandboxes, snapshots and templates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dormouse_agent_proto::control::CachePolicy;
use dormouse_guest_mem::{Bytes, PageClass, RamLayout};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{SandboxId, Secret, SnapshotId, TemplateName, UploadState};

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being started from its template or from another sandbox's snapshot.
    Creating,
    /// The VM runs and the agent has answered.
    Running,
    /// Being written to disk; the VM still exists.
    Pausing,
    /// Costs disk only; its snapshot is durable.
    Paused,
    /// Being brought back from its snapshot.
    Resuming,
    /// The VM ended without a pause. A snapshot of an earlier pause may remain and can be resumed.
    Lost,
}

/// What happens when a sandbox's time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It is removed for good.
    #[default]
    Kill,
    /// It is paused.
    Pause,
}

/// What a caller asks for in a new sandbox.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// The template to start from.
    pub template: TemplateName,
    /// How long it may run, from now.
    pub timeout: Duration,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// Free-form labels, kept for the caller.
    pub metadata: BTreeMap<String, String>,
    /// Environment of every process started in it.
    pub env: BTreeMap<String, String>,
}

/// A sandbox as it is now.
#[derive(Clone, Debug)]
pub struct SandboxInfo {
    /// Its id.
    pub id: SandboxId,
    /// The template it came from.
    pub template: TemplateName,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it is lost, or why the last pause or resume failed.
    pub reason: Option<String>,
    /// When it was first started.
    pub started_at: Timestamp,
    /// When its time is up (while running) or was set to be.
    pub end_at: Timestamp,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// The caller's labels.
    pub metadata: BTreeMap<String, String>,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest RAM.
    pub ram: Bytes,
    /// Virtual size of the overlay disk.
    pub disk: Bytes,
    /// The newest durable snapshot of this sandbox, if any.
    pub snapshot: Option<SnapshotId>,
    /// The token its agent wants. Not for lists or logs.
    pub token: Secret,
}

/// A snapshot that callers keep.
#[derive(Clone, Debug)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The sandbox that it was taken of.
    pub sandbox: SandboxId,
    /// The template that this sandbox came from.
    pub template: TemplateName,
    /// The name that its creator gave it.
    pub name: Option<TemplateName>,
    /// When it was taken.
    pub created: Timestamp,
    /// Bytes that it takes on disk.
    pub on_disk: Bytes,
}

/// How to reach a running sandbox's agent.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// TCP address on this machine's loopback.
    pub addr: SocketAddr,
    /// The token the agent wants in `X-Access-Token`.
    pub token: Secret,
}

/// How to pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseOptions {
    /// What becomes of the guest's page cache.
    pub cache: CachePolicy,
    /// Also count what other methods would keep. Stops the guest twice and reads all of its RAM.
    pub measure: bool,
}

/// One step of a pause, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepReport {
    /// What was done.
    pub name: String,
    /// Wall time in microseconds.
    pub micros: u64,
}

/// How the free pages were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Introspection {
    /// The guest's page structures were read.
    Pages {
        /// Release of the guest's kernel.
        kernel: String,
    },
    /// Only zero pages were left out.
    ZeroOnly {
        /// Why.
        reason: String,
    },
}

/// Counts taken for comparison by [`PauseOptions::measure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Non-zero RAM before the guest was asked to prepare: what a plain snapshot keeps at least.
    pub non_zero_before: Bytes,
    /// Non-zero RAM after prepare: what the cache policy alone leaves.
    pub non_zero_after: Bytes,
}

/// Pages of one class in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRow {
    /// What the guest kernel used the pages for.
    pub class: PageClass,
    /// All of them.
    pub total: Bytes,
    /// Those that are zero and therefore not stored.
    pub zero: Bytes,
    /// Those whose bytes are on the base disk or the overlay disk, and only referred to.
    pub on_disks: Bytes,
    /// Those whose bytes are in packs.
    pub data: Bytes,
}

/// Where every byte of a paused guest's RAM went, and what it costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspection {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The template it descends from.
    pub template: TemplateName,
    /// When it was taken.
    pub created: Timestamp,
    /// Guest RAM.
    pub ram: Bytes,
    /// Left out as free: the guest's page allocator owns the content.
    pub free: Bytes,
    /// Left out as zero.
    pub zero: Bytes,
    /// Not stored, since it is on the base disk or the overlay disk.
    pub on_disks: Bytes,
    /// In packs, before compression; equal pages as often as they occur.
    pub kept: Bytes,
    /// Size of the pack that the pause wrote: what was in no other snapshot and on no disk.
    pub new_pack: Bytes,
    /// The memory image on disk: its index, and all packs that it needs.
    pub memory_on_disk: Bytes,
    /// The device state on disk.
    pub device_state_on_disk: Bytes,
    /// The overlay disk's allocated bytes.
    pub overlay_on_disk: Bytes,
    /// By use, for all classes that occur.
    pub classes: Vec<ClassRow>,
    /// How free pages were found.
    pub introspection: Introspection,
    /// Counts of other methods, if asked for.
    pub comparison: Option<Comparison>,
    /// What it cost while the virtual CPUs stood still, of a snapshot of a sandbox that went on.
    pub stillness: Option<Stillness>,
    /// What the pause spent its time on.
    pub steps: Vec<StepReport>,
    /// Its copy on the remote, if there is one behind the state folder.
    pub remote: Option<RemoteCopy>,
}

/// A snapshot as it is on the remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCopy {
    /// How far it is on its way there.
    pub upload: UploadState,
    /// Packs that are only there: a resume fetches them.
    pub not_here: Bytes,
}

/// What the daemon did while the virtual CPUs of a sandbox that goes on stood still. Time and faults are those of all its threads,
/// whatever else they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stillness {
    /// RAM that was copied.
    pub copied: Bytes,
    /// RAM that had been copied before, while they ran, and had not changed since.
    #[serde(default)]
    pub ahead: Bytes,
    /// CPU time.
    pub cpu_micros: u64,
    /// Page faults.
    pub page_faults: u64,
}

/// A run of pages that were treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRun {
    /// First page of the RAM file.
    pub start: u32,
    /// How many pages.
    pub pages: u32,
    /// What the guest used them for.
    pub class: PageClass,
    /// Whether their bytes are stored.
    pub stored: bool,
}

/// The whole RAM as runs, for drawing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RamMap {
    /// Where RAM lies.
    pub layout: RamLayout,
    /// Runs, ascending and gapless.
    pub runs: Vec<MapRun>,
}

/// A template as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TemplateInfo {
    /// Its name.
    pub name: TemplateName,
    /// When it was built.
    pub created: Timestamp,
    /// Virtual CPUs of its sandboxes.
    pub vcpus: u8,
    /// Guest RAM of its sandboxes.
    pub ram: Bytes,
    /// Virtual size of the overlay disk.
    pub disk: Bytes,
    /// Release of its kernel.
    pub kernel: String,
    /// The snapshot that its sandboxes start from.
    pub snapshot: SnapshotId,
    /// The base disk's allocated bytes.
    pub base_on_disk: Bytes,
    /// The snapshot's bytes: memory, device state and overlay.
    pub snapshot_on_disk: Bytes,
}
