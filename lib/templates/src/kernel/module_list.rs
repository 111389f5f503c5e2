//! Modules in a folder, in the order in which they must be loaded, as the agent reads them.

use std::fs;
use std::path::Path;

use super::module_folder::Module;
use crate::BuildError;
use crate::error::AtPath;

/// The file names of the modules, one on a line.
const LIST: &str = "modules.list";
/// The folder with the files.
const FOLDER: &str = "modules";

/// What such a folder holds: names relative to it, and contents.
pub(crate) struct ModuleList {
    pub(crate) list: (&'static str, String),
    pub(crate) folder: &'static str,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl ModuleList {
    /// Reads the list in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, BuildError> {
        let path = folder.join(LIST);
        let list = fs::read_to_string(&path).at(&path)?;
        let mut files = Vec::new();
        for name in list.lines().map(|name| format!("{FOLDER}/{name}")) {
            let path = folder.join(&name);
            files.push((name, fs::read(&path).at(&path)?));
        }
        Ok(Self { list: (LIST, list), folder: FOLDER, files })
    }
}

/// Puts `modules` into `folder`.
pub(super) fn write(modules: &[Module], folder: &Path) -> Result<(), BuildError> {
    let target = folder.join(FOLDER);
    fs::create_dir(&target).at(&target)?;
    let mut list = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        let path = target.join(&name);
        fs::write(&path, &module.content).at(&path)?;
        list.push_str(&name);
        list.push('\n');
    }
    let path = folder.join(LIST);
    fs::write(&path, list).at(&path)
}
