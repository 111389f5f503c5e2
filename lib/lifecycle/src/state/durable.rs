//! Small files that survive a crash whole: the old content or the new one, never a part.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Records are a few kilobytes, and at most about twice as long as the largest request that the API takes (1 MiB).
/// A larger file was not written by us, so none is written either.
const MAX_RECORD: u64 = 4 << 20;

/// Replaces `path` by `value` as JSON. When this returns, the new content is durable.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    if bytes.len() as u64 > MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than any record may be"));
    }
    write_bytes(path, &bytes)
}

/// Replaces `path` by `bytes`, readable by the owner only.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let half = path.with_extension("half");
    let written = (|| {
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half, path)
    })();
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&half);
    }
    written?;
    sync_dir(dir)
}

/// Reads a file that [`write_json`] wrote.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_RECORD + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_RECORD {
        return Err(io::Error::other("larger than any record"));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// Removes `path` durably; that it is not there is fine.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Makes renames, links and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_replaced_whole_and_leaves_no_half_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_json(&path, &vec![1, 2, 3]).unwrap();
        write_json(&path, &vec![4]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), [4]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_json(&path, &"a token").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_truncated_or_oversized_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "[1, 2").unwrap();
        assert!(read_json::<Vec<u32>>(&path).is_err());
        File::create(&path).unwrap().set_len(MAX_RECORD + 1).unwrap();
        assert!(read_json::<Vec<u32>>(&path).is_err());
        assert!(write_json(&path, &"x".repeat(5 << 20)).is_err(), "what could not be read again is not written");
    }
}
