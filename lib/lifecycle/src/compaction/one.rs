//! Compacting one snapshot.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dormouse_guest_mem::Bytes;
use dormouse_image::publish::Staging;
use dormouse_image::{CompactionPolicy, PackId, Progress, StoreOptions, WriteError};

use dormouse_store::Pins;

use super::swap;
use crate::error::with_causes;
use crate::host::Shared;
use crate::snapshot::Stored;
use crate::steps::reached;
use crate::{Error, Result, SnapshotId};

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) packs_before: usize,
    pub(crate) packs_after: usize,
    /// The new pack.
    pub(crate) written: Bytes,
}

/// Stops when it is told to.
struct Stoppable<'a>(&'a AtomicBool);

impl Progress for Stoppable<'_> {
    fn advance(&self, _done: Bytes, _total: Bytes) {}

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Rewrites what the policy says, if it says anything. Until the manifest is replaced nothing has changed; from then on nothing
/// is to be undone.
pub(super) fn compact(shared: &Arc<Shared>, id: &SnapshotId, stop: &AtomicBool) -> Result<Option<Outcome>> {
    let _held = shared.readers.hold(id);
    let stored = Stored::open(shared.folder.snapshot(id), id.clone())?;
    let packs = shared.packs.packs();
    let _pins = packs.pin(stored.packs().iter().map(|pack| pack.id));
    let image = stored.image()?;
    let keep = shared_by_all(shared);
    let _fetched =
        fetch(shared, &stored, &dormouse_image::packs_to_compact(&image, &keep, CompactionPolicy::default()))?;
    let staging = shared.folder.staging();
    let folder = Staging::create(&staging, &format!("compact-{id}"));
    let folder = folder.map_err(|e| Error::storage("create a folder in", &staging, &e))?;
    let index_path = folder.path().join("memory.idx");
    let index = File::options().read(true).write(true).create_new(true).open(&index_path);
    let index = index.map_err(|e| Error::storage("create", &index_path, &e))?;
    let staged = packs.stage().map_err(failed)?;
    // One thread: whoever waits for a pause or a resume goes first.
    let options = StoreOptions { threads: 1, ..StoreOptions::default() };
    let made = dormouse_image::compact(
        &image,
        packs,
        &keep,
        CompactionPolicy::default(),
        (staged.file(), &index),
        options,
        &Stoppable(stop),
    );
    let made = made.map_err(|error| match error {
        WriteError::Cancelled => Error::Cancelled,
        WriteError::NoSpace { needed, available } => Error::NoSpace { needed, available },
        other => stored.unusable(with_causes(&other)),
    })?;
    let Some(mut made) = made else { return Ok(None) };
    reached("compacted");
    let written = made.pack.as_ref().map(|pack| pack.named().len).unwrap_or_default();
    let _new = made.pack.take().map(|sealed| packs.adopt(staged, &sealed).map_err(failed)).transpose()?;
    index.sync_all().map_err(|e| Error::storage("write", &index_path, &e))?;
    reached("index synced");
    let swapped = swap::swap(shared, &stored, &made, &index_path, stop)?;
    Ok(swapped.then(|| Outcome { packs_before: stored.packs().len(), packs_after: made.packs.len(), written }))
}

/// Gets those of the packs that are to be rewritten that only the remote has.
fn fetch(shared: &Shared, stored: &Stored, chosen: &[PackId]) -> Result<Option<Pins>> {
    let here = |id: &PackId| matches!(shared.packs.packs().len(id), Ok(Some(_)));
    let absent = stored.packs().iter().filter(|pack| chosen.contains(&pack.id) && !here(&pack.id)).copied();
    let absent: Vec<_> = absent.collect();
    if absent.is_empty() {
        return Ok(None);
    }
    tokio::runtime::Handle::current().block_on(shared.remote.fetch_packs(&stored.id, &absent))
}

/// The packs of templates: many snapshots need them, and go on needing them.
fn shared_by_all(shared: &Shared) -> BTreeSet<PackId> {
    let stored = shared
        .templates
        .all()
        .into_iter()
        .filter_map(|template| Stored::open(shared.folder.snapshot(&template.snapshot), template.snapshot).ok());
    stored.flat_map(|stored| stored.packs().iter().map(|pack| pack.id).collect::<Vec<_>>()).collect()
}

fn failed(error: dormouse_store::StoreError) -> Error {
    match error {
        dormouse_store::StoreError::NoSpace { needed, available, .. } => Error::NoSpace { needed, available },
        other => Error::Io { what: "keep a pack".to_owned(), source: std::io::Error::other(other) },
    }
}
