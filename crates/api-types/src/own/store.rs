//! The store as a whole.

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

/// The answer to `GET /dormouse/v1/store`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStats {
    /// How many packs there are.
    pub packs: u64,
    /// What they take.
    pub packs_on_disk: Bytes,
    /// By how many need them, ascending; those that nobody needs first, if there are any.
    pub needed: Vec<Needed>,
    /// Packs that are needed, are not here, and are on the store behind the daemon, as far as is known.
    #[serde(default)]
    pub remote_packs: u64,
    /// What they take there.
    #[serde(default)]
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
    /// That RAM by where its pages were found at the pause.
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
    /// What cannot be read. While there is anything, nothing is collected.
    pub unreadable: Vec<Unreadable>,
}

/// Packs that are needed equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    /// By so many snapshots and running sandboxes.
    pub by: u64,
    /// How many packs.
    pub packs: u64,
    /// What they take.
    pub bytes: Bytes,
}

/// RAM by where its pages were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// Its path.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Body of `POST /dormouse/v1/store/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyRequest {
    /// Ids of snapshots; everything is checked if there are none.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// Packs that only the store behind the daemon has are fetched and read too. Otherwise it is asked whether it has them.
    #[serde(default)]
    pub fetch: bool,
}

/// One line of the answer to a verification, as NDJSON. The last line is `done` or `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyEvent {
    /// A part begins.
    Step(String),
    /// The part is so far.
    Advance {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Something is damaged. Told again when it hurts another snapshot.
    Damaged(DamagedObject),
    /// Everything was looked at.
    Done(VerifyReport),
    /// It could not be finished.
    Error(crate::ApiError),
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// Snapshots of which every byte is as it was.
    pub good: Vec<String>,
    /// Snapshots of which everything that is here is as it was, and of which packs that only the store has were not read.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Packs that were not read because only the store has them.
    #[serde(default)]
    pub remote_packs: u64,
    /// Why the store could not be asked for all of these, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
    /// Snapshots that cannot be resumed.
    pub hurt: Vec<String>,
    /// Packs that were read whole.
    pub packs: u64,
    /// What is damaged, by kind and path.
    pub damaged: Vec<DamagedObject>,
}

/// A damaged part of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its path in the state folder.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The snapshots that cannot be resumed because of it.
    pub snapshots: Vec<String>,
}

/// What kind of thing is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The index of a base disk, which is made again when it is needed.
    DiskIndex,
}

/// Body of `POST /dormouse/v1/store/gc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectRequest {
    /// Remove nothing, and say what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// The same on the store behind the daemon.
    #[serde(default)]
    pub remote: bool,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Garbage {
    /// Packs that nobody needs.
    pub packs: u64,
    /// What they take.
    pub packs_freed: Bytes,
    /// Half-made things that nobody is making any more.
    pub leftovers: u64,
    /// What they take.
    pub leftovers_freed: Bytes,
    /// Packs on the store behind the daemon that nobody needs, if those were asked for.
    #[serde(default)]
    pub remote_packs: u64,
    /// What they take.
    #[serde(default)]
    pub remote_freed: Bytes,
    /// Packs that are needed and are neither here nor, as far as is known, on the store.
    pub absent: Vec<AbsentPack>,
}

/// A pack that is needed and is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbsentPack {
    /// Its id.
    pub id: String,
    /// Who needs it: snapshots, and `run-ID` for a sandbox that runs.
    pub needed_by: Vec<String>,
}
