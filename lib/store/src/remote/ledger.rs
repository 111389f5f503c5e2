//! What this machine knows about the remote: which packs are there, and how far each snapshot is.
//!
//! ```text
//! uploaded/TAG/remote             which remote this is about, for people
//! uploaded/TAG/packs/ab/ID        empty: the remote has this pack
//! uploaded/TAG/snapshots/NAME     how far the snapshot is, as JSON
//! ```
//!
//! TAG is made from the remote's address, so that nothing said of one remote is believed of another. A pack's file is made
//! only after the remote confirmed the pack; if it is lost in a crash, the pack is found there at the next attempt.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dormouse_image::Digest;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::{PackId, SnapshotName, StoreError, durable, room};

/// An entry is some dozens of bytes.
const MAX_ENTRY: u64 = 4096;

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) state: Progress,
    /// Hash of the manifest that this is about.
    pub(super) generation: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Progress {
    /// Something of it may be there. Written before anything of it is.
    Uploading,
    /// All of it is there.
    Uploaded,
    /// It came from there, and is somebody else's.
    Fetched,
}

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    packs: PathBuf,
    snapshots: PathBuf,
}

impl Ledger {
    /// Opens what is known about `target`, below `root`.
    pub(super) fn open(root: &Path, target: &Target) -> Result<Self, StoreError> {
        let text = target.to_string();
        let tag: String = Digest::of(text.as_bytes()).to_string().chars().take(16).collect();
        let dir = root.join(tag);
        let ledger = Self { packs: dir.join("packs"), snapshots: dir.join("snapshots") };
        for dir in [root, &dir, &ledger.packs, &ledger.snapshots] {
            durable::make_dir(dir)?;
        }
        replace(&dir.join("remote"), format!("{text}\n").as_bytes())?;
        Ok(ledger)
    }

    pub(super) fn has_pack(&self, id: &PackId) -> bool {
        self.pack(id).exists()
    }

    pub(super) fn add_pack(&self, id: &PackId) -> Result<(), StoreError> {
        let path = self.pack(id);
        if let Some(dir) = path.parent() {
            durable::make_dir(dir)?;
        }
        match File::options().write(true).create(true).truncate(true).open(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(room::failed(&path, "created", 4096, error)),
        }
    }

    pub(super) fn remove_pack(&self, id: &PackId) -> Result<(), StoreError> {
        durable::remove_file(&self.pack(id)).map(|_| ())
    }

    pub(super) fn snapshot(&self, name: &SnapshotName) -> Option<Entry> {
        read(&self.snapshots.join(name.as_str()))
    }

    /// Durable when this returns.
    pub(super) fn set_snapshot(&self, name: &SnapshotName, entry: Entry) -> Result<(), StoreError> {
        let path = self.snapshots.join(name.as_str());
        let text = serde_json::to_vec(&entry).map_err(|error| StoreError::io(&path, "written")(error.into()))?;
        replace(&path, &text)
    }

    pub(super) fn remove_snapshot(&self, name: &SnapshotName) -> Result<(), StoreError> {
        if durable::remove_file(&self.snapshots.join(name.as_str()))? {
            durable::sync_dir(&self.snapshots)?;
        }
        Ok(())
    }

    /// All snapshots that something is known about; of one whose entry cannot be read, None.
    pub(super) fn snapshots(&self) -> Result<BTreeMap<SnapshotName, Option<Entry>>, StoreError> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&self.snapshots).map_err(StoreError::io(&self.snapshots, "listed"))? {
            let entry = entry.map_err(StoreError::io(&self.snapshots, "listed"))?;
            let name = entry.file_name().into_string().ok().and_then(|name| SnapshotName::try_from(name).ok());
            if let Some(name) = name {
                all.insert(name, read(&entry.path()));
            }
        }
        Ok(all)
    }

    fn pack(&self, id: &PackId) -> PathBuf {
        let [first, ..] = id.0.0;
        self.packs.join(format!("{first:02x}")).join(id.to_string())
    }
}

fn read(path: &Path) -> Option<Entry> {
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_ENTRY).read_to_end(&mut text)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Replaces a file in one step, durably. The name of the half-written one is none of a snapshot.
fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let half = path.with_extension("half");
    let written: io::Result<()> = (|| {
        let mut file = File::create(&half)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&half, path)
    })();
    written.map_err(|error| room::failed(path, "written", 4096, error))?;
    path.parent().map_or(Ok(()), durable::sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_survives_and_belongs_to_one_remote() {
        let dir = tempfile::tempdir().unwrap();
        let [here, there] = ["/a", "/b"].map(|path| Target::Folder(path.into()));
        let (id, name) = (PackId(Digest::of(b"p")), SnapshotName::try_from("s").unwrap());
        let entry = Entry { state: Progress::Uploading, generation: id.0 };
        let ledger = Ledger::open(dir.path(), &here).unwrap();
        ledger.add_pack(&id).unwrap();
        ledger.set_snapshot(&name, entry).unwrap();
        let ledger = Ledger::open(dir.path(), &here).unwrap();
        assert!(ledger.has_pack(&id));
        assert_eq!(ledger.snapshots().unwrap(), [(name.clone(), Some(entry))].into());
        let other = Ledger::open(dir.path(), &there).unwrap();
        assert!(!other.has_pack(&id) && other.snapshot(&name).is_none());
        ledger.remove_pack(&id).unwrap();
        ledger.remove_snapshot(&name).unwrap();
        assert!(!ledger.has_pack(&id) && ledger.snapshots().unwrap().is_empty());
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_listed_as_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), &Target::Folder("/a".into())).unwrap();
        let name = SnapshotName::try_from("s").unwrap();
        fs::write(ledger.snapshots.join("s"), "{\"state\":\"upl").unwrap();
        assert_eq!(ledger.snapshots().unwrap(), [(name, None)].into());
    }

    #[test]
    fn an_entry_that_is_longer_than_any_can_be_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), &Target::Folder("/a".into())).unwrap();
        let name = SnapshotName::try_from("s").unwrap();
        let entry = Entry { state: Progress::Uploaded, generation: Digest::of(b"m") };
        let text = serde_json::to_string(&entry).unwrap();
        let blanks = |count: usize| " ".repeat(count);
        for (count, known) in [(100, Some(entry)), (5000, None)] {
            fs::write(ledger.snapshots.join("s"), blanks(count) + &text).unwrap();
            assert_eq!(ledger.snapshot(&name), known, "{count}");
        }
    }

    #[test]
    fn what_cannot_be_noted_leaves_what_was_noted_before() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), &Target::Folder("/a".into())).unwrap();
        let name = SnapshotName::try_from("s").unwrap();
        let entry = |state| Entry { state, generation: Digest::of(b"m") };
        ledger.set_snapshot(&name, entry(Progress::Uploading)).unwrap();
        // Something is in the way of the new one.
        fs::create_dir(ledger.snapshots.join("s.half")).unwrap();
        assert!(ledger.set_snapshot(&name, entry(Progress::Uploaded)).is_err());
        assert_eq!(ledger.snapshot(&name), Some(entry(Progress::Uploading)));
    }
}
