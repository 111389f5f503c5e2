//! Checking all of the store.

use std::collections::BTreeSet;

use dormouse_guest_mem::Bytes;
use dormouse_image::{DiskIndex, PackId, Progress, ReadError, check_pack};
use dormouse_store::StoreError;

use super::check::{Checked, Reader};
use super::findings::{Faults, Findings, Object};
use super::remote::Asking;
use super::{ObjectKind, Verification, VerifyReport, VerifyWatch};
use crate::error::with_causes;
use crate::host::Shared;
use crate::snapshot::{Stored, snapshots_in};
use crate::{Error, Result, SnapshotId};

/// Checks these snapshots and what they are made of, or everything.
pub(super) fn verify(shared: &Shared, wanted: Verification, watch: &dyn VerifyWatch) -> Result<VerifyReport> {
    let Verification { snapshots: wanted, fetch } = wanted;
    let all = wanted.is_empty();
    if let Some(none) = wanted.iter().find(|id| !shared.folder.snapshot(id).exists()) {
        return Err(Error::NoSnapshot(none.clone()));
    }
    let ids = if all { all_snapshots(shared)? } else { wanted.into_iter().collect() };
    // Sandboxes that run have the other half.
    let threads = shared.limits.image_threads.div_ceil(2);
    let remote = &Asking::new(&shared.remote, fetch);
    let (folder, packs_here, readers) = (&shared.folder, shared.packs.packs(), &shared.readers);
    let reader = Reader { folder, packs: packs_here, readers, remote, threads };
    let mut report = VerifyReport::default();
    let root = shared.folder.root();
    let mut findings = Findings::new(watch, root);

    watch.step("packs");
    report.packs = packs(&reader, &packs_of(&reader, &ids, all)?, &mut findings, watch)?;
    disk_indexes(&reader, all, &ids, &mut findings, watch)?;
    for (id, n) in ids.iter().zip(1..) {
        watch.step(&format!("snapshot {id} ({n} of {})", ids.len()));
        let Some(found) = named(&reader, shared, id, watch)? else { continue };
        let list = match (found.faults.is_empty(), found.unread) {
            (false, _) => &mut report.hurt,
            (true, true) => &mut report.unread,
            (true, false) => &mut report.good,
        };
        list.push(id.clone());
        findings.add(found.faults, Some(id));
        // What was fetched to be read need not stay.
        shared.remote.trim();
    }
    report.damaged = findings.into_damaged();
    remote.tell(&mut report);
    Ok(report)
}

/// Those that are there, and those that somebody relies on.
fn all_snapshots(shared: &Shared) -> Result<BTreeSet<SnapshotId>> {
    let mut ids: BTreeSet<_> = snapshots_in(&shared.folder)?.into_iter().collect();
    ids.extend(relied_on(shared));
    Ok(ids)
}

fn relied_on(shared: &Shared) -> impl Iterator<Item = SnapshotId> {
    let templates = shared.templates.all().into_iter().map(|template| template.snapshot);
    let kept = shared.kept.all().into_iter().map(|kept| kept.id);
    templates.chain(kept).chain(shared.snapshots_of_sandboxes())
}

/// What is found of a snapshot; one that is not there is a fault if somebody still relies on it.
fn named(reader: &Reader<'_>, shared: &Shared, id: &SnapshotId, watch: &dyn VerifyWatch) -> Result<Option<Checked>> {
    let found = reader.check(id, &Told { watch, done: 0, total: None })?;
    if found.is_none() && relied_on(shared).any(|relied| relied == *id) {
        let manifest = shared.folder.snapshot(id).join(dormouse_image::manifest::FILE_NAME);
        let mut faults = Faults::default();
        faults.add(Object::new(ObjectKind::Manifest, manifest), "it is missing");
        return Ok(Some(Checked { faults, unread: false }));
    }
    Ok(found)
}

/// Packs to be read whole.
fn packs_of(reader: &Reader<'_>, ids: &BTreeSet<SnapshotId>, all: bool) -> Result<BTreeSet<PackId>> {
    if all {
        let listed = reader.packs.list().map_err(|e| Error::io("list the packs")(std::io::Error::other(e)))?;
        return Ok(listed.into_iter().map(|pack| pack.id).collect());
    }
    let stored = ids.iter().filter_map(|id| Stored::open(reader.folder.snapshot(id), id.clone()).ok());
    Ok(stored.flat_map(|stored| stored.packs().iter().map(|pack| pack.id).collect::<Vec<_>>()).collect())
}

/// Reads every frame of these packs. One that is gone is told of by the snapshots that need it.
fn packs(
    reader: &Reader<'_>,
    ids: &BTreeSet<PackId>,
    findings: &mut Findings<'_>,
    watch: &dyn VerifyWatch,
) -> Result<u64> {
    let len = |id: &PackId| reader.packs.len(id).ok().flatten().unwrap_or_default().0;
    let total = ids.iter().map(len).sum();
    let (mut done, mut read) = (0, 0);
    for id in ids {
        let mut faults = Faults::default();
        match reader.packs.file(id) {
            Ok(file) => {
                match check_pack(file, id, &Told { watch, done, total: Some(total) }) {
                    Ok(_) => {}
                    Err(ReadError::Cancelled { .. }) => return Err(Error::Cancelled),
                    Err(error) => faults.read(&error, reader.packs.root()),
                }
                read += 1;
            }
            Err(StoreError::Missing { .. }) => {}
            Err(error) => faults.add(Object::pack(reader.packs.root(), id), with_causes(&error)),
        }
        findings.add(faults, None);
        done += len(id);
    }
    Ok(read)
}

fn disk_indexes(
    reader: &Reader<'_>,
    all: bool,
    ids: &BTreeSet<SnapshotId>,
    findings: &mut Findings<'_>,
    watch: &dyn VerifyWatch,
) -> Result<()> {
    let dir = reader.folder.disk_indexes();
    let paths: BTreeSet<_> = if all {
        let listed = crate::snapshot::list_dir(&dir).map_err(Error::io(format!("list {}", dir.display())))?;
        listed.into_iter().collect()
    } else {
        let stored = ids.iter().filter_map(|id| Stored::open(reader.folder.snapshot(id), id.clone()).ok());
        stored.map(|stored| crate::snapshot::base_index_file(&dir, &stored.machine.base_disk)).collect()
    };
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "index") && path.exists()) {
        if watch.cancelled() {
            return Err(Error::Cancelled);
        }
        let mut faults = Faults::default();
        if let Err(error) = DiskIndex::read(&path, None)
            && path.exists()
        {
            faults.add(Object::new(ObjectKind::DiskIndex, path), with_causes(&error));
        }
        findings.add(faults, None);
    }
    Ok(())
}

/// Progress of one thing as a part of more.
struct Told<'a> {
    watch: &'a dyn VerifyWatch,
    done: u64,
    total: Option<u64>,
}

impl Progress for Told<'_> {
    fn advance(&self, done: Bytes, total: Bytes) {
        self.watch.advance(self.done + done.0, self.total.unwrap_or(total.0));
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }
}
