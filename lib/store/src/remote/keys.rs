//! Names of objects on the remote.
//!
//! ```text
//! PREFIX/packs/ab/ID.pack                    a pack, the very file
//! PREFIX/snapshots/NAME/GENERATION/FILE      a file of a snapshot
//! PREFIX/snapshots/NAME/snapshot.json        what the snapshot consists of: written last, removed first
//! ```
//!
//! A snapshot's files can change (its packs are compacted). Then they go up under another generation, and the record is
//! replaced in one step.

use dormouse_image::Digest;
use object_store::path::Path;

use crate::{PackId, SnapshotName};

/// The file that says what a snapshot consists of.
pub(super) const RECORD: &str = "snapshot.json";

/// Makes keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Path,
}

impl Keys {
    pub(super) fn new(prefix: Path) -> Self {
        Self { prefix }
    }

    pub(super) fn packs(&self) -> Path {
        self.prefix.clone().join("packs")
    }

    pub(super) fn pack(&self, id: &PackId) -> Path {
        let [first, ..] = id.0.0;
        self.packs().join(format!("{first:02x}")).join(id.file_name())
    }

    pub(super) fn snapshots(&self) -> Path {
        self.prefix.clone().join("snapshots")
    }

    /// Nothing is ever put there: a snapshot's objects lie deeper.
    pub(super) fn probe(&self) -> Path {
        self.snapshots().join("probe")
    }

    pub(super) fn snapshot(&self, name: &SnapshotName) -> Path {
        self.snapshots().join(name.as_str())
    }

    pub(super) fn record(&self, name: &SnapshotName) -> Path {
        self.snapshot(name).join(RECORD)
    }

    pub(super) fn generation(&self, name: &SnapshotName, generation: &Digest) -> Path {
        self.snapshot(name).join(generation.to_string())
    }

    pub(super) fn file(&self, name: &SnapshotName, generation: &Digest, file: &str) -> Path {
        self.generation(name, generation).join(file)
    }

    /// Which pack a key names.
    pub(super) fn pack_of(&self, key: &Path) -> Option<PackId> {
        let id = key.filename()?.strip_suffix(".pack")?.parse().ok()?;
        (self.pack(&id) == *key).then_some(id)
    }

    /// Whose record a key names.
    pub(super) fn record_of(&self, key: &Path) -> Option<SnapshotName> {
        let name = key.prefix_match(&self.snapshots())?.next()?.as_ref().to_owned();
        let name = SnapshotName::try_from(name).ok()?;
        (self.record(&name) == *key).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised_and_others_are_not() {
        let keys = Keys::new(Path::from("a/b"));
        let id = PackId(Digest::of(b"x"));
        let name = SnapshotName::try_from("snap").unwrap();
        assert_eq!(keys.pack_of(&keys.pack(&id)), Some(id));
        assert_eq!(keys.record_of(&keys.record(&name)), Some(name.clone()));
        assert_eq!(keys.pack_of(&Path::from(format!("a/b/packs/zz/{id}.pack"))), None);
        assert_eq!(keys.record_of(&keys.file(&name, &id.0, RECORD)), None);
        assert_eq!(keys.record_of(&Path::from("a/snapshots/snap/snapshot.json")), None);
    }
}
