//! What callers see of the store.

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use crate::SnapshotId;

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Its path.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Packs that are needed equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// By so many snapshots and running sandboxes.
    pub by: u64,
    /// How many packs.
    pub packs: u64,
    /// What they take.
    pub bytes: Bytes,
}

/// RAM by where its pages were found at the pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamTotals {
    /// Not used by the guest.
    pub free: Bytes,
    /// All zero.
    pub zero: Bytes,
    /// In packs that were there before, or where the parent had it on the base disk.
    pub parent: Bytes,
    /// On a disk.
    pub disk: Bytes,
    /// Equal to an earlier page of the same guest.
    pub duplicate: Bytes,
    /// In the pack that the pause wrote.
    pub data: Bytes,
}

/// What is kept, what it costs, and what it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStats {
    /// How many packs there are.
    pub packs: u64,
    /// What they take.
    pub packs_on_disk: Bytes,
    /// By how many need them, ascending; those that nobody needs first, if there are any.
    pub needed: Vec<Needed>,
    /// Packs that are needed, are not here, and are on the remote, as far as is known.
    pub remote_packs: u64,
    /// What they take there.
    pub remote_bytes: Bytes,
    /// Packs that are needed and are nowhere, as far as is known.
    pub absent_packs: u64,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// Packs that a snapshot needs: half of the snapshots need at most so many.
    pub packs_per_snapshot_median: u64,
    /// The most packs that a snapshot needs.
    pub packs_per_snapshot_max: u64,
    /// RAM of all snapshots together.
    pub ram: Bytes,
    /// That RAM by where it was found.
    pub ram_by: RamTotals,
    /// Indexes of memory images.
    pub indexes: Bytes,
    /// Device states.
    pub device_states: Bytes,
    /// Overlay disks.
    pub overlays: Bytes,
    /// Snapshots that wait to be looked at, whether there is something to compact.
    pub compactions_waiting: u64,
    /// Snapshots that were compacted since the daemon started.
    pub compacted: u64,
    /// What that wrote.
    pub compacted_bytes: Bytes,
    /// Compactions that failed since then.
    pub compactions_failed: u64,
    /// Snapshots and VMs of which it is not known what they need. While there are any, nothing is collected.
    pub unreadable: Vec<Unreadable>,
}

/// What kind of thing is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A snapshot's manifest.
    Manifest,
    /// The index of a memory image.
    Index,
    /// A pack.
    Pack,
    /// A device state.
    DeviceState,
    /// An overlay disk.
    Overlay,
    /// A template's base disk.
    BaseDisk,
    /// The index of a base disk. It is made again when it is needed, so no snapshot is hurt by it.
    DiskIndex,
}

/// A damaged part of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its path in the state folder.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The snapshots that cannot be resumed because of it.
    pub snapshots: Vec<SnapshotId>,
}

/// What is to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// These snapshots; everything if there are none.
    pub snapshots: Vec<SnapshotId>,
    /// Packs that only the remote has are fetched and read too. Otherwise the remote is asked whether it has them.
    pub fetch: bool,
}

impl From<Vec<SnapshotId>> for Verification {
    fn from(snapshots: Vec<SnapshotId>) -> Self {
        Self { snapshots, fetch: false }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Snapshots of which every byte is as it was.
    pub good: Vec<SnapshotId>,
    /// Snapshots of which everything that is here is as it was, and of which packs that only the remote has were not read.
    pub unread: Vec<SnapshotId>,
    /// Packs that were not read because only the remote has them.
    pub remote_packs: u64,
    /// Why the remote could not be asked for all of these, if so.
    pub unanswered: Option<String>,
    /// Snapshots that cannot be resumed.
    pub hurt: Vec<SnapshotId>,
    /// Packs that were read whole.
    pub packs: u64,
    /// What is damaged, by kind and path.
    pub damaged: Vec<DamagedObject>,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Packs that nobody needs.
    pub packs: u64,
    /// What they take.
    pub packs_freed: Bytes,
    /// Half-made things that nobody is making any more.
    pub leftovers: u64,
    /// What they take.
    pub leftovers_freed: Bytes,
    /// Packs on the remote that no snapshot there or here needs, if they were to be collected.
    pub remote_packs: u64,
    /// What they take.
    pub remote_freed: Bytes,
    /// Packs that are needed and are neither here nor, as far as is known, on the remote, with those who need them.
    pub absent: Vec<(String, Vec<String>)>,
}

/// The caller's view of a verification. Called from worker threads: must be quick.
pub trait VerifyWatch: Send + Sync {
    /// A part begins.
    fn step(&self, text: &str);

    /// The part is so far, in bytes.
    fn advance(&self, done: u64, total: u64);

    /// Something is damaged. Told again with another snapshot when it hurts more than one.
    fn damaged(&self, object: &DamagedObject);

    /// Whether to stop. The verification then ends with [`Error::Cancelled`](crate::Error::Cancelled) within moments.
    fn cancelled(&self) -> bool;
}
