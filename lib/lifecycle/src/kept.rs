//! Snapshots that callers keep: they outlive their sandbox, and new sandboxes start from them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dormouse_guest_mem::Bytes;

use crate::host::Shared;
use crate::snapshot::{Material, Stored};
use crate::state::{self, SnapshotRecord, StateFolder};
use crate::{Error, Result, SnapshotId, SnapshotInfo};

/// All of them by id. What is listed here is durable.
pub(crate) struct Kept {
    records: Mutex<BTreeMap<SnapshotId, SnapshotRecord>>,
    unreadable: Vec<(String, String)>,
}

impl Kept {
    /// Reads all records. One that cannot be read is left alone: its snapshot is not there.
    pub(crate) fn load(folder: &StateFolder) -> Self {
        let (mut records, mut unreadable) = (BTreeMap::new(), Vec::new());
        let listed = fs::read_dir(folder.kept()).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = listed.unwrap_or_else(|error| {
            unreadable.push((folder.kept().display().to_string(), error.to_string()));
            Vec::new()
        });
        for path in entries.into_iter().map(|entry| entry.path()) {
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match state::read_json::<SnapshotRecord>(&path) {
                Ok(record) => drop(records.insert(record.id.clone(), record)),
                Err(error) => unreadable.push((path.display().to_string(), error.to_string())),
            }
        }
        Self { records: Mutex::new(records), unreadable }
    }

    /// Records that could not be read, and why.
    pub(crate) fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    pub(crate) fn all(&self) -> Vec<SnapshotRecord> {
        self.lock().values().cloned().collect()
    }

    /// The one with this id, or else the newest with this name.
    pub(crate) fn find(&self, id_or_name: &str) -> Option<SnapshotRecord> {
        let records = self.lock();
        let by_id = records.values().find(|record| record.id.as_str() == id_or_name);
        let by_name = || {
            let named =
                records.values().filter(|record| record.name.as_ref().is_some_and(|n| n.as_str() == id_or_name));
            named.max_by_key(|record| record.created)
        };
        by_id.or_else(by_name).cloned()
    }

    /// Makes a record durable and visible. Its snapshot must be durable.
    fn publish(&self, folder: &StateFolder, record: SnapshotRecord) -> Result<()> {
        let path = folder.kept_record(&record.id);
        state::write_json(&path, &record).map_err(Error::io(format!("write {}", path.display())))?;
        self.lock().insert(record.id.clone(), record);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SnapshotId, SnapshotRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a snapshot of what was gathered, and keeps it. When this returns both are durable; on failure there is neither.
pub(crate) async fn keep(shared: &Arc<Shared>, material: Material, record: SnapshotRecord) -> Result<SnapshotInfo> {
    let shared = Arc::clone(shared);
    crate::blocking(move || {
        let stored = material.store(&shared)?;
        let info = info(&record, stored.on_disk());
        // First: as soon as others know of it they may remove it, or compact it, and say so.
        shared.remote.snapshot_is_there(&stored);
        shared.kept.publish(&shared.folder, record).inspect_err(|_| shared.remove_snapshot(&stored.id))?;
        shared.compactor.consider(&stored.id);
        Ok(info)
    })
    .await
}

/// Keeps a snapshot that is durable.
#[cfg(test)]
pub(crate) fn publish(shared: &Shared, record: SnapshotRecord) -> Result<()> {
    shared.kept.publish(&shared.folder, record)
}

/// Removes a kept snapshot. Sandboxes that were started from it do not need it.
pub(crate) fn remove(shared: &Shared, id: &SnapshotId) -> Result<()> {
    if !shared.kept.lock().contains_key(id) {
        return Err(Error::NoSnapshot(id.clone()));
    }
    let path = shared.folder.kept_record(id);
    state::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
    shared.kept.lock().remove(id);
    shared.remove_snapshot(id);
    Ok(())
}

/// All kept snapshots, newest first.
pub(crate) fn list(shared: &Shared) -> Vec<SnapshotInfo> {
    let mut records = shared.kept.all();
    records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let on_disk = |id: &SnapshotId| Stored::open(shared.folder.snapshot(id), id.clone()).map(|s| s.on_disk());
    records.iter().map(|record| info(record, on_disk(&record.id).unwrap_or_default())).collect()
}

fn info(record: &SnapshotRecord, on_disk: Bytes) -> SnapshotInfo {
    let SnapshotRecord { id, sandbox, template, name, created, .. } = record.clone();
    SnapshotInfo { id, sandbox, template, name, created, on_disk }
}

/// The record of a snapshot that is about to be taken of this sandbox.
pub(crate) fn record_of(
    sandbox: &state::SandboxRecord,
    id: SnapshotId,
    name: Option<crate::TemplateName>,
) -> SnapshotRecord {
    SnapshotRecord {
        id,
        sandbox: sandbox.id.clone(),
        template: sandbox.template.clone(),
        name,
        created: jiff::Timestamp::now(),
        token: sandbox.token.clone(),
        generation: sandbox.generation,
        env: sandbox.env.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SandboxId, Secret};

    fn record(name: Option<&str>, created: &str) -> SnapshotRecord {
        SnapshotRecord {
            id: SnapshotId::random().unwrap(),
            sandbox: SandboxId::random().unwrap(),
            template: "base".parse().unwrap(),
            name: name.map(|n| n.parse().unwrap()),
            created: created.parse().unwrap(),
            token: Secret::from("token".to_owned()),
            generation: 3,
            env: BTreeMap::from([("A".into(), "b".into())]),
        }
    }

    #[test]
    fn a_snapshot_is_found_by_id_and_the_newest_of_a_name_by_name_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(dir.path()).unwrap();
        let kept = Kept::load(&folder);
        let [old, new, other] = [
            record(Some("ready"), "2026-11-01T00:00:00Z"),
            record(Some("ready"), "2026-11-02T00:00:00Z"),
            record(None, "2026-11-03T00:00:00Z"),
        ];
        for record in [&new, &old, &other] {
            kept.publish(&folder, record.clone()).unwrap();
        }
        for kept in [kept, Kept::load(&folder)] {
            let found = |text: &str| kept.find(text).map(|record| record.id);
            assert_eq!(found("ready"), Some(new.id.clone()));
            assert_eq!(found(old.id.as_str()), Some(old.id.clone()));
            assert_eq!(found(other.id.as_str()), Some(other.id.clone()));
            assert_eq!(found("nothing"), None);
            assert_eq!(kept.all().len(), 3);
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(dir.path()).unwrap();
        let path = folder.kept().join("s00000000000000000000.json");
        fs::write(&path, "{").unwrap();
        // What a crash left of another one is none.
        fs::write(folder.kept().join("s00000000000000000001.half"), "{").unwrap();
        let kept = Kept::load(&folder);
        assert_eq!(kept.unreadable().len(), 1);
        assert!(path.exists() && kept.all().is_empty());
    }
}
