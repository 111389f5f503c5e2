//! Removing what nobody needs.

use dormouse_guest_mem::Bytes;
use dormouse_image::publish::Staging;
use dormouse_store::StoreError;

use super::Garbage;
use crate::host::Shared;
use crate::snapshot::needs;
use crate::{Error, Result};

/// Finds out anew what is needed, and removes the rest unless `dry_run`.
pub(super) fn collect(shared: &Shared, dry_run: bool) -> Result<Garbage> {
    let packs = shared.packs.packs();
    packs.recall(|| needs(&shared.folder).known()).map_err(|mut unreadable| {
        let more = unreadable.len().saturating_sub(1);
        let first = unreadable.swap_remove(0);
        Error::CannotCollect { what: first.what, why: first.why, more }
    })?;
    let mut garbage = Garbage::default();
    let plan = packs.plan().map_err(|e| failed(&e))?;
    garbage.absent = plan
        .absent
        .iter()
        .filter(|(id, _)| !shared.remote.has(id))
        .map(|(id, needed_by)| (id.to_string(), needed_by.iter().map(ToString::to_string).collect()))
        .collect();
    if dry_run {
        (garbage.packs, garbage.packs_freed) = (plan.remove.len() as u64, plan.frees());
    } else {
        let collected = packs.collect().map_err(|e| failed(&e))?;
        (garbage.packs, garbage.packs_freed) = (collected.removed.len() as u64, collected.freed);
    }
    let (halves, bytes) = packs.leftovers(!dry_run).map_err(|e| failed(&e))?;
    let staging = shared.folder.staging();
    let left = Staging::leftovers(&staging, !dry_run).map_err(|e| Error::storage("clear", &staging, &e))?;
    garbage.leftovers = halves + left.len() as u64;
    garbage.leftovers_freed = Bytes(bytes.0 + left.iter().map(|(_, len)| len.0).sum::<u64>());
    Ok(garbage)
}

fn failed(error: &StoreError) -> Error {
    Error::io("collect packs")(std::io::Error::other(error.to_string()))
}
