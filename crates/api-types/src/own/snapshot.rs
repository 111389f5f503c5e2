//! Where every byte of a paused guest's RAM went.

use dormouse_guest_mem::{Bytes, PageClass, RamLayout};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Answer to `GET /dormouse/v1/snapshots/{id}`. `free + zero + on_disks + kept = ram`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The snapshot.
    pub snapshot: String,
    /// The template it descends from.
    pub template: String,
    /// When it was taken.
    pub created_at: Timestamp,
    /// Guest RAM.
    pub ram: Bytes,
    /// Left out: the guest's page allocator owns the content.
    pub free: Bytes,
    /// Left out: every byte is zero.
    pub zero: Bytes,
    /// Not stored: every byte is on the base disk or the overlay disk.
    #[serde(default)]
    pub on_disks: Bytes,
    /// In packs, before compression; equal pages as often as they occur.
    pub kept: Bytes,
    /// Size of the pack that this pause wrote; the others were there already.
    #[serde(default)]
    pub new_pack: Bytes,
    /// The memory image: its index, and all packs that it needs.
    pub memory_on_disk: Bytes,
    /// The VMM's state of devices and CPUs.
    pub device_state_on_disk: Bytes,
    /// Allocated bytes of the overlay disk.
    pub overlay_on_disk: Bytes,
    /// By use, for all classes that occur.
    pub classes: Vec<ClassRow>,
    /// How free pages were found.
    pub introspection: Introspection,
    /// What other methods would have kept, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// What the pause spent its time on.
    pub steps: Vec<Step>,
    /// Its copy on the remote store, if the daemon has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteCopy>,
}

/// A snapshot as it is on the remote store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCopy {
    /// How far it is on its way there.
    pub upload: UploadState,
    /// Why it failed, if it did; it is tried again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Packs that are only there: a resume fetches them.
    pub not_here: Bytes,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// It is of passing use and does not go up.
    NotWanted,
    /// Others go first.
    Waiting,
    /// It is on its way.
    Uploading,
    /// The last attempt failed.
    Failed,
    /// All of it is there.
    Uploaded,
}

impl Inspection {
    /// Everything that the snapshot costs on disk.
    #[must_use]
    pub fn on_disk(&self) -> Bytes {
        let parts = [self.memory_on_disk, self.device_state_on_disk, self.overlay_on_disk];
        Bytes(parts.iter().fold(0, |sum, part| sum.saturating_add(part.0)))
    }
}

/// Pages that the guest used alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRow {
    /// What the guest kernel used them for.
    pub class: PageClass,
    /// All of them.
    pub total: Bytes,
    /// Those that are zero.
    pub zero: Bytes,
    /// Those that are on a disk anyway.
    #[serde(default)]
    pub on_disks: Bytes,
    /// Those that are stored.
    pub stored: Bytes,
}

/// How free pages were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Introspection {
    /// By the guest's page structures.
    Pages {
        /// Release of the guest's kernel.
        kernel: String,
    },
    /// Not at all: only zero pages were left out.
    ZeroOnly {
        /// Why.
        reason: String,
    },
}

/// What other methods would have kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// RAM that was not zero before the guest prepared: what a plain snapshot keeps.
    pub non_zero_before: Bytes,
    /// RAM that was not zero after: what dropping the page cache alone leaves.
    pub non_zero_after: Bytes,
}

/// One step of a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// Wall time in microseconds.
    pub micros: u64,
}

/// Answer to `GET /dormouse/v1/snapshots/{id}/map`: all of RAM as runs, ascending and gapless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RamMap {
    /// Where RAM lies.
    pub layout: RamLayout,
    /// The runs. Written as `[pages, class, stored]`, since there may be hundreds of thousands.
    pub runs: Vec<MapRun>,
}

/// Pages in a row that were treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, PageClass, bool)", into = "(u32, PageClass, bool)")]
pub struct MapRun {
    /// How many.
    pub pages: u32,
    /// What the guest used them for.
    pub class: PageClass,
    /// Whether their bytes are stored.
    pub stored: bool,
}

impl From<(u32, PageClass, bool)> for MapRun {
    fn from((pages, class, stored): (u32, PageClass, bool)) -> Self {
        Self { pages, class, stored }
    }
}

impl From<MapRun> for (u32, PageClass, bool) {
    fn from(run: MapRun) -> Self {
        (run.pages, run.class, run.stored)
    }
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::{GuestAddr, RamRegion};
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_map_is_written_in_few_characters_and_read_back() {
        let layout = RamLayout::new(vec![RamRegion { guest: GuestAddr(0), offset: 0, len: 8192 }]).unwrap();
        let run = |class, stored| MapRun { pages: 1, class, stored };
        let map = RamMap { layout, runs: vec![run(PageClass::Free, false), run(PageClass::PageCache, true)] };
        let wire = json!({"layout": [{"guest": 0, "offset": 0, "len": 8192}],
            "runs": [[1, "free", false], [1, "page_cache", true]]});
        assert_eq!(to_value(&map).unwrap(), wire);
        assert_eq!(from_value::<RamMap>(wire).unwrap(), map);
    }
}
