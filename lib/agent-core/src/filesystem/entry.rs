//! What is told about one entry.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use buffa_types::google::protobuf::Timestamp;
use dormouse_agent_proto::filesystem::{EntryInfo, FileType};

use super::FilesystemError;
use crate::files::metadata::{self, Metadata};
use crate::identity::Names;

/// Describes the entry at `path`. A link is described by what it points to, and names its target; a dangling one describes itself.
pub(crate) fn entry(path: &Path, names: &Names) -> Result<EntryInfo, FilesystemError> {
    let link = std::fs::symlink_metadata(path).map_err(|error| FilesystemError::io(path, error))?;
    let symlink_target = link.is_symlink().then(|| std::fs::read_link(path).ok()).flatten();
    let meta = if link.is_symlink() { std::fs::metadata(path).unwrap_or(link) } else { link };
    let kind = if meta.is_dir() {
        FileType::FILE_TYPE_DIRECTORY
    } else if meta.is_symlink() {
        FileType::FILE_TYPE_SYMLINK
    } else {
        FileType::FILE_TYPE_FILE
    };
    let modified =
        Timestamp { seconds: meta.mtime(), nanos: i32::try_from(meta.mtime_nsec()).unwrap_or(0), ..Default::default() };
    // Only these have attributes of users (xattr(7)).
    let noted = if meta.is_file() || meta.is_dir() { metadata::of_file(path) } else { Metadata::default() };
    Ok(EntryInfo {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        r#type: kind.into(),
        path: path.to_string_lossy().into_owned(),
        size: i64::try_from(meta.size()).unwrap_or(i64::MAX),
        mode: meta.mode() & 0o7777,
        permissions: permissions(&meta),
        owner: names.user(meta.uid()),
        group: names.group(meta.gid()),
        modified_time: modified.into(),
        metadata: noted.into_iter().collect(),
        symlink_target: symlink_target.map(|target| target.to_string_lossy().into_owned()),
        ..Default::default()
    })
}

/// As `ls -l` shows them.
fn permissions(meta: &std::fs::Metadata) -> String {
    let kind = meta.file_type();
    let first = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let mode = meta.mode();
    std::iter::once(first).chain(bits.map(|(i, letter)| if mode & (0o400 >> i) == 0 { '-' } else { letter })).collect()
}
