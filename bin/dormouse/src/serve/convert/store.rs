//! The store in the words of the API.

use dormouse_api_types::own;
use dormouse_lifecycle as host;

/// What is kept and what it costs.
pub(crate) fn stats(found: host::StoreStats) -> own::StoreStats {
    let needed = |n: host::Needed| own::Needed { by: n.by, packs: n.packs, bytes: n.bytes };
    let unreadable = |u: host::Unreadable| own::Unreadable { what: u.what, why: u.why };
    let host::RamTotals { free, zero, parent, disk, duplicate, data } = found.ram_by;
    own::StoreStats {
        packs: found.packs,
        packs_on_disk: found.packs_on_disk,
        needed: found.needed.into_iter().map(needed).collect(),
        remote_packs: found.remote_packs,
        remote_bytes: found.remote_bytes,
        absent_packs: found.absent_packs,
        snapshots: found.snapshots,
        packs_per_snapshot_median: found.packs_per_snapshot_median,
        packs_per_snapshot_max: found.packs_per_snapshot_max,
        ram: found.ram,
        ram_by: own::RamTotals { free, zero, parent, disk, duplicate, data },
        indexes: found.indexes,
        device_states: found.device_states,
        overlays: found.overlays,
        compactions_waiting: found.compactions_waiting,
        compacted: found.compacted,
        compacted_bytes: found.compacted_bytes,
        compactions_failed: found.compactions_failed,
        unreadable: found.unreadable.into_iter().map(unreadable).collect(),
    }
}

/// What a verification found.
pub(crate) fn report(found: host::VerifyReport) -> own::VerifyReport {
    let text = |ids: Vec<host::SnapshotId>| ids.into_iter().map(String::from).collect();
    own::VerifyReport {
        good: text(found.good),
        unread: text(found.unread),
        remote_packs: found.remote_packs,
        unanswered: found.unanswered,
        hurt: text(found.hurt),
        packs: found.packs,
        damaged: found.damaged.into_iter().map(damaged).collect(),
    }
}

/// A damaged part.
pub(crate) fn damaged(object: host::DamagedObject) -> own::DamagedObject {
    own::DamagedObject {
        kind: match object.kind {
            host::ObjectKind::Manifest => own::ObjectKind::Manifest,
            host::ObjectKind::Index => own::ObjectKind::Index,
            host::ObjectKind::Pack => own::ObjectKind::Pack,
            host::ObjectKind::DeviceState => own::ObjectKind::DeviceState,
            host::ObjectKind::Overlay => own::ObjectKind::Overlay,
            host::ObjectKind::BaseDisk => own::ObjectKind::BaseDisk,
            host::ObjectKind::DiskIndex => own::ObjectKind::DiskIndex,
        },
        path: object.path,
        reason: object.reason,
        snapshots: object.snapshots.into_iter().map(String::from).collect(),
    }
}

/// What a collection removed.
pub(crate) fn garbage(found: host::Garbage) -> own::Garbage {
    own::Garbage {
        packs: found.packs,
        packs_freed: found.packs_freed,
        leftovers: found.leftovers,
        leftovers_freed: found.leftovers_freed,
        remote_packs: found.remote_packs,
        remote_freed: found.remote_freed,
        absent: found.absent.into_iter().map(|(id, needed_by)| own::AbsentPack { id, needed_by }).collect(),
    }
}
