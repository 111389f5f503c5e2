//! The templates of a host.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::Shared;
use crate::state::{self, StateFolder, TemplateRecord};
use crate::{Error, Result, TemplateName};

/// All templates by name. What is listed here is durable.
pub(crate) struct Templates {
    records: Mutex<BTreeMap<TemplateName, TemplateRecord>>,
    building: Mutex<()>,
    unreadable: Vec<(String, String)>,
}

impl Templates {
    /// Reads all records. One that cannot be read is left alone: its template is not there.
    pub(crate) fn load(folder: &StateFolder) -> Self {
        let (mut records, mut unreadable) = (BTreeMap::new(), Vec::new());
        let listed = fs::read_dir(folder.templates()).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = listed.unwrap_or_else(|error| {
            unreadable.push((folder.templates().display().to_string(), error.to_string()));
            Vec::new()
        });
        for entry in entries {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match state::read_json::<TemplateRecord>(&path) {
                Ok(record) => drop(records.insert(record.name.clone(), record)),
                Err(error) => unreadable.push((path.display().to_string(), error.to_string())),
            }
        }
        Self { records: Mutex::new(records), building: Mutex::default(), unreadable }
    }

    /// Records that could not be read, and why.
    pub(crate) fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    pub(crate) fn get(&self, name: &TemplateName) -> Result<TemplateRecord> {
        self.lock().get(name).cloned().ok_or_else(|| Error::NoTemplate(name.clone()))
    }

    pub(crate) fn all(&self) -> Vec<TemplateRecord> {
        self.lock().values().cloned().collect()
    }

    /// Makes a template durable and visible; gives the one that it replaces.
    pub(super) fn publish(&self, folder: &StateFolder, record: TemplateRecord) -> Result<Option<TemplateRecord>> {
        let path = folder.template(&record.name);
        state::write_json(&path, &record).map_err(Error::io(format!("write {}", path.display())))?;
        Ok(self.lock().insert(record.name.clone(), record))
    }

    /// Held while artifacts are made: two builds at once would make the same ones.
    pub(super) fn building(&self) -> std::sync::MutexGuard<'_, ()> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TemplateName, TemplateRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a template. Its artifacts stay for other templates and later builds.
pub(crate) async fn remove(shared: &Arc<Shared>, name: &TemplateName, sandboxes: usize) -> Result<()> {
    let record = shared.templates.get(name)?;
    if sandboxes > 0 {
        return Err(Error::TemplateInUse { name: name.clone(), sandboxes });
    }
    let path = shared.folder.template(name);
    state::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
    shared.templates.lock().remove(name);
    shared.remove_snapshot(&record.snapshot);
    Ok(())
}
