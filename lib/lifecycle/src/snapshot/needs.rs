//! Which packs snapshots and VMs need, read anew from manifests and folders of VMs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_image::{Image, PackRef};
use dormouse_store::gc::References;
use dormouse_store::{PackId, SnapshotName};

use super::Stored;
use super::packs::name_of_run;
use super::parent::PARENT_INDEX;
use crate::error::with_causes;
use crate::state::StateFolder;
use crate::storage::Unreadable;
use crate::{Error, Result, SnapshotId};

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) references: References,
    /// Of these it is not known what they need.
    pub(crate) unreadable: Vec<Unreadable>,
}

impl Needs {
    /// What is needed, if that is known of everything.
    pub(crate) fn known(self) -> std::result::Result<References, Vec<Unreadable>> {
        if self.unreadable.is_empty() { Ok(self.references) } else { Err(self.unreadable) }
    }

    fn insert(&mut self, name: String, packs: &[PackRef]) {
        match SnapshotName::try_from(name.as_str()) {
            Ok(name) => self.references.insert(name, ids(packs)),
            Err(error) => self.unreadable.push(Unreadable { what: name, why: error.to_string() }),
        }
    }
}

pub(super) fn ids(packs: &[PackRef]) -> BTreeSet<PackId> {
    packs.iter().map(|pack| pack.id).collect()
}

/// Reads everything. What goes away meanwhile needs nothing.
pub(crate) fn needs(folder: &StateFolder) -> Needs {
    let mut needs = Needs::default();
    for dir in entries(&folder.snapshots(), &mut needs) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(id) = name.parse::<SnapshotId>() else { continue };
        // What was half removed has no manifest any more.
        let manifest = dir.join(dormouse_image::manifest::FILE_NAME);
        if !manifest.exists() {
            continue;
        }
        match Stored::open(dir, id) {
            Ok(stored) => needs.insert(name, stored.packs()),
            Err(error) if manifest.exists() => {
                needs.unreadable.push(Unreadable { what: manifest.display().to_string(), why: error.to_string() });
            }
            Err(_) => {}
        }
    }
    for run in entries(&folder.runs(), &mut needs) {
        let index = run.join(PARENT_INDEX);
        if !index.exists() {
            continue;
        }
        match Image::open(&index, None) {
            Ok(image) => needs.insert(name_of_run(&run), image.packs()),
            Err(error) if index.exists() => {
                needs.unreadable.push(Unreadable { what: index.display().to_string(), why: with_causes(&error) });
            }
            Err(_) => {}
        }
    }
    needs
}

fn entries(dir: &Path, needs: &mut Needs) -> Vec<PathBuf> {
    list(dir).unwrap_or_else(|error| {
        needs.unreadable.push(Unreadable { what: dir.display().to_string(), why: error.to_string() });
        Vec::new()
    })
}

/// What is in a folder.
pub(crate) fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect()
}

/// The snapshots that have a manifest.
pub(crate) fn snapshots_in(folder: &StateFolder) -> Result<Vec<SnapshotId>> {
    let dir = folder.snapshots();
    let listed = list(&dir).map_err(Error::io(format!("list {}", dir.display())))?;
    let whole = listed.into_iter().filter(|dir| dir.join(dormouse_image::manifest::FILE_NAME).exists());
    Ok(whole.filter_map(|dir| dir.file_name()?.to_str()?.parse().ok()).collect())
}
