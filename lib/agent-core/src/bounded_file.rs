//! Small files that the guest's users may have replaced by anything.
//!
//! Root in a guest can put a pipe, a device or a file without end where a file is expected, in `/etc` as well as (by a bind mount)
//! in `/proc`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// The text of the regular file `path`, an error if it is longer than `limit` bytes or not UTF-8. Does not wait for a pipe's other
/// end; a file system that does not answer still blocks.
pub(crate) fn read(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, limit)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Like [`read`], whatever the bytes are.
pub(crate) fn read_bytes(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK | OFlags::NOCTTY)).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Makes `text` the content of `path`, all at once: whoever reads meanwhile sees the old file or the new one. A link is followed, the
/// mode of an existing file is kept, a new one gets `mode`. The directory must exist.
pub(crate) fn replace(path: impl AsRef<Path>, text: &str, mode: u32) -> io::Result<()> {
    // A link that leads nowhere is replaced itself.
    let path = path.as_ref();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let mode =
        fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file).map_or(mode, |old| old.permissions().mode());
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = directory.join(hidden);
    // Left by a run that was cut off.
    let _ = fs::remove_file(&new);
    let written = write_new(&new, text, mode).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_small_regular_text_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("fits"), "1234").unwrap();
        fs::write(path("long"), "12345").unwrap();
        fs::write(path("bytes"), [0xff]).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(read(path("fits"), 4).unwrap(), "1234");
        for refused in ["long", "bytes", "pipe", "missing", ""] {
            assert!(read(path(refused), 4).is_err(), "{refused:?}");
        }
        assert!(read("/dev/zero", 4).is_err());
    }

    #[test]
    fn a_file_is_replaced_at_once_behind_links_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        replace(&file, "one", 0o644).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let before = File::open(&file).unwrap();
        replace(&link, "two", 0o644).unwrap();
        assert!(link.is_symlink());
        assert_eq!(
            (fs::read_to_string(&file).unwrap(), io::read_to_string(before).unwrap()),
            ("two".into(), "one".into())
        );
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}
