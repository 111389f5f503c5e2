//! Listing directories.

use std::path::Path;

use dormouse_agent_proto::filesystem::EntryInfo;

use super::FilesystemError;
use super::entry::entry;
use crate::identity::Names;

/// Most entries of one listing, which is held in memory as a whole.
const MAX_ENTRIES: usize = 20_000;

/// Entries below `directory`, `depth` levels deep (0 means 1), each directory's sorted by name and before what is in it. Links to
/// directories are listed and not followed.
pub(super) fn list(directory: &Path, depth: u32, names: &Names) -> Result<Vec<EntryInfo>, FilesystemError> {
    let meta = std::fs::metadata(directory).map_err(|error| FilesystemError::io(directory, error))?;
    if !meta.is_dir() {
        return Err(FilesystemError::NotDirectory(directory.to_owned()));
    }
    let mut entries = Vec::new();
    // A stack of its own instead of recursion, for trees of any depth.
    let mut open = vec![children(directory)?.into_iter()];
    while let Some(level) = open.last_mut() {
        let Some(path) = level.next() else {
            open.pop();
            continue;
        };
        if entries.len() == MAX_ENTRIES {
            return Err(FilesystemError::TooMany(MAX_ENTRIES));
        }
        // Gone since it was read: not an error.
        let Ok(info) = entry(&path, names) else { continue };
        entries.push(info);
        let deeper = u32::try_from(open.len()).is_ok_and(|level| level < depth.max(1));
        if deeper && path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            open.push(children(&path).unwrap_or_default().into_iter());
        }
    }
    Ok(entries)
}

fn children(directory: &Path) -> Result<Vec<std::path::PathBuf>, FilesystemError> {
    let read = std::fs::read_dir(directory).map_err(|error| FilesystemError::io(directory, error))?;
    let mut paths: Vec<_> = read.filter_map(|entry| Some(entry.ok()?.path())).take(MAX_ENTRIES + 1).collect();
    paths.sort();
    Ok(paths)
}
