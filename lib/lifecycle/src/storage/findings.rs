//! What a verification has found so far.

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};

use dormouse_image::{DiskSlot, PackId, ReadError};

use super::{DamagedObject, ObjectKind, VerifyWatch};
use crate::SnapshotId;
use crate::error::with_causes;

/// A part of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) path: PathBuf,
}

impl Object {
    pub(super) fn new(kind: ObjectKind, path: impl Into<PathBuf>) -> Self {
        Self { kind, path: path.into() }
    }

    /// Whom an error of a reader accuses. `packs` is the folder of packs.
    pub(super) fn of(error: &ReadError, packs: &Path) -> Option<Self> {
        Some(match error {
            ReadError::Io { path, .. }
            | ReadError::NotAnImage { path }
            | ReadError::Newer { path, .. }
            | ReadError::UnknownFlags { path, .. }
            | ReadError::Truncated { path, .. }
            | ReadError::Damaged { path, .. }
            | ReadError::OtherImage { path, .. }
            | ReadError::OtherContent { path, .. }
            | ReadError::NoSuchPage { path, .. }
            | ReadError::DiskMissing { path, .. } => Self::new(ObjectKind::Index, path),
            ReadError::Pack(gone) => Self::pack(packs, &gone.pack),
            ReadError::PackDamaged { pack, .. }
            | ReadError::PackNewer { pack, .. }
            | ReadError::PackIo { pack, .. } => Self::pack(packs, pack),
            ReadError::DiskIo { disk, path, .. } | ReadError::DiskChanged { disk, path, .. } => {
                let kind = match disk {
                    DiskSlot::Base => ObjectKind::BaseDisk,
                    DiskSlot::Overlay => ObjectKind::Overlay,
                };
                Self::new(kind, path)
            }
            ReadError::Cancelled { .. } => return None,
        })
    }

    pub(super) fn pack(packs: &Path, id: &PackId) -> Self {
        let name = id.file_name();
        let folder: String = name.chars().take(2).collect();
        Self::new(ObjectKind::Pack, packs.join(folder).join(name))
    }
}

/// What is wrong with one snapshot: the first reason for each part.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<Object, String>);

impl Faults {
    pub(super) fn add(&mut self, object: Object, reason: impl Into<String>) {
        self.0.entry(object).or_insert_with(|| reason.into());
    }

    /// What a reader said.
    pub(super) fn read(&mut self, error: &ReadError, packs: &Path) {
        if let Some(object) = Object::of(error, packs) {
            self.add(object, with_causes(error));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everything that is damaged.
pub(super) struct Findings<'a> {
    watch: &'a dyn VerifyWatch,
    /// What paths are told relative to.
    root: &'a Path,
    found: BTreeMap<Object, DamagedObject>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(watch: &'a dyn VerifyWatch, root: &'a Path) -> Self {
        Self { watch, root, found: BTreeMap::new() }
    }

    /// Notes what is wrong, and whom it hurts.
    pub(super) fn add(&mut self, faults: Faults, hurts: Option<&SnapshotId>) {
        for (object, reason) in faults.0 {
            let path = object.path.strip_prefix(self.root).unwrap_or(&object.path).display().to_string();
            let kind = object.kind;
            let (found, new) = match self.found.entry(object) {
                Entry::Vacant(place) => {
                    (place.insert(DamagedObject { kind, path, reason, snapshots: Vec::new() }), true)
                }
                Entry::Occupied(place) => (place.into_mut(), false),
            };
            let hurt = hurts.filter(|id| !found.snapshots.contains(id));
            found.snapshots.extend(hurt.cloned());
            if new || hurt.is_some() {
                self.watch.damaged(found);
            }
        }
    }

    pub(super) fn into_damaged(self) -> Vec<DamagedObject> {
        self.found.into_values().collect()
    }
}
