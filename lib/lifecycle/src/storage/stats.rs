//! What the store holds and costs.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_guest_mem::Bytes;
use dormouse_store::PackId;

use super::{Needed, RamTotals, StoreStats};
use crate::host::Shared;
use crate::snapshot::{Stored, needs, snapshots_in};
use crate::{Error, Result};

/// Reads all manifests. Nothing is remembered from one time to the next.
pub(super) fn stats(shared: &Shared) -> Result<StoreStats> {
    let needs = needs(&shared.folder);
    let mut stats = StoreStats { unreadable: needs.unreadable, ..StoreStats::default() };
    let present = shared.packs.packs().list().map_err(|e| Error::io("list the packs")(std::io::Error::other(e)))?;
    let mut by_need: BTreeMap<u64, Needed> = BTreeMap::new();
    for pack in &present {
        let by = needs.references.count(&pack.id);
        let row = by_need.entry(by).or_insert(Needed { by, packs: 0, bytes: Bytes(0) });
        row.packs += 1;
        row.bytes.0 += pack.len.0;
        stats.packs += 1;
        stats.packs_on_disk.0 += pack.len.0;
    }
    stats.needed = by_need.into_values().collect();
    let here = |id: &PackId| present.binary_search_by_key(id, |pack| pack.id).is_ok();
    let (there, nowhere): (BTreeSet<PackId>, BTreeSet<PackId>) =
        needs.references.packs().copied().filter(|id| !here(id)).partition(|id| shared.remote.has(id));
    (stats.remote_packs, stats.absent_packs) = (there.len() as u64, nowhere.len() as u64);
    let mut lens = BTreeMap::new();

    let mut packs_each = Vec::new();
    for id in snapshots_in(&shared.folder)? {
        // What cannot be read is among the unreadable.
        let Ok(stored) = Stored::open(shared.folder.snapshot(&id), id) else { continue };
        stats.snapshots += 1;
        packs_each.push(stored.packs().len() as u64);
        lens.extend(stored.packs().iter().filter(|pack| there.contains(&pack.id)).map(|pack| (pack.id, pack.len.0)));
        stats.ram.0 += stored.machine.ram.0;
        add(&mut stats.ram_by, &stored);
        stats.indexes.0 += stored.index_len().0;
        stats.device_states.0 += stored.device_state_len().0;
        stats.overlays.0 += crate::snapshot::allocated(&stored.overlay_file()).0;
    }
    stats.remote_bytes = Bytes(lens.values().sum());
    let done = shared.compactor.done();
    (stats.compacted, stats.compacted_bytes, stats.compactions_failed) = (done.compacted, done.written, done.failed);
    stats.compactions_waiting = shared.compactor.waiting();
    packs_each.sort_unstable();
    stats.packs_per_snapshot_max = packs_each.last().copied().unwrap_or(0);
    stats.packs_per_snapshot_median = packs_each.get(packs_each.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    Ok(stats)
}

fn add(totals: &mut RamTotals, stored: &Stored) {
    let pages = |names: &[&str]| names.iter().map(|name| Bytes::of_pages(stored.pages(name)).0).sum::<u64>();
    totals.free.0 += pages(&["free"]);
    totals.zero.0 += pages(&["zero"]);
    totals.parent.0 += pages(&["parent"]);
    totals.disk.0 += pages(&["base_disk", "overlay_disk"]);
    totals.duplicate.0 += pages(&["duplicate"]);
    totals.data.0 += pages(&["data"]);
}
