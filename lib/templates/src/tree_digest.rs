//! The key of a directory tree: names, kinds, owners, modes, extended attributes and content.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::digest::KeyHasher;
use crate::error::AtPath;
use crate::{BuildError, Progress};

/// The kernel allows 64 KiB for the list of names and for each value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 1 << 16;

/// Adds everything below `root` that a copy would keep, in an order that does not depend on the filesystem. Symbolic
/// links are not followed and special files not opened.
pub(crate) fn hash_tree(root: &Path, hasher: &mut KeyHasher, progress: &dyn Progress) -> Result<(), BuildError> {
    let mut pending = vec![root.to_owned()];
    let device = fs::symlink_metadata(root).at(root)?.dev();
    while let Some(path) = pending.pop() {
        progress.go_on()?;
        let meta = fs::symlink_metadata(&path).at(&path)?;
        hasher.field(path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes());
        for number in [meta.mode().into(), meta.uid().into(), meta.gid().into(), meta.mtime().cast_unsigned()] {
            hasher.number(number);
        }
        hash_xattrs(&path, hasher)?;
        if meta.is_dir() && meta.dev() == device {
            let mut names = fs::read_dir(&path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
                .at(&path)?;
            names.sort_unstable();
            pending.extend(names);
        } else if meta.is_symlink() {
            hasher.field(fs::read_link(&path).at(&path)?.as_os_str().as_bytes());
        } else if meta.is_file() {
            hasher.number(meta.len());
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            hasher.open_file(File::from(rustix::fs::open(&path, flags, Mode::empty()).at(&path)?), &path, progress)?;
        } else if meta.file_type().is_block_device() || meta.file_type().is_char_device() {
            hasher.number(meta.rdev());
        }
    }
    Ok(())
}

fn hash_xattrs(path: &Path, hasher: &mut KeyHasher) -> Result<(), BuildError> {
    let mut list = vec![0; XATTR_MAX];
    let length = match rustix::fs::llistxattr(path, &mut list) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other.at(path)?,
    };
    let mut names: Vec<&[u8]> =
        list.get(..length).unwrap_or_default().split(|b| *b == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    hasher.number(names.len() as u64);
    for name in names {
        let mut value = vec![0; XATTR_MAX];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).at(path)?;
        hasher.field(name);
        hasher.field(value.get(..length).unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::Silent;
    use crate::digest::Key;

    fn key_of(root: &Path) -> Key {
        let mut hasher = KeyHasher::new("test");
        hash_tree(root, &mut hasher, &Silent).unwrap();
        hasher.finish()
    }

    #[test]
    fn every_kind_of_change_to_a_tree_changes_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "one").unwrap();
        let mut seen = vec![key_of(dir.path())];
        assert_eq!(seen.first(), Some(&key_of(dir.path())), "nothing changed");
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(&file, "two").unwrap(),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap(),
            &|| symlink("/nowhere", dir.path().join("link")).unwrap(),
            &|| fs::create_dir(dir.path().join("empty")).unwrap(),
            &|| {
                rustix::fs::setxattr(&file, "user.colour", b"blue", rustix::fs::XattrFlags::empty()).unwrap();
            },
        ];
        for (n, change) in changes.iter().enumerate() {
            change();
            let key = key_of(dir.path());
            assert!(!seen.contains(&key), "change {n} went unnoticed");
            seen.push(key);
        }
    }

    #[test]
    fn a_link_out_of_the_tree_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        let before = key_of(dir.path());
        fs::write(outside.path(), "changed").unwrap();
        assert_eq!(key_of(dir.path()), before);
    }
}
