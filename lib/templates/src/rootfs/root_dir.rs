//! Files within a foreign root filesystem, reached without ever leaving it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::BuildError;
use crate::error::AtPath;

/// The largest settings file that is read.
const MAX_FILE: u64 = 4 << 20;
const TEMPORARY: &str = ".dormouse-new";

/// A root filesystem in which links lead as they would for a process whose root it is. Special files are never opened
/// and files never written in place, so neither a link nor a device node in it can reach the host.
pub(super) struct RootDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl RootDir {
    pub(super) fn open(path: &Path) -> Result<Self, BuildError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { path: path.to_owned(), fd: rustix::fs::open(path, flags, Mode::empty()).at(path)? })
    }

    /// Whether there is a directory at `name`, following links within the root.
    pub(super) fn is_dir(&self, name: &str) -> bool {
        self.resolve(name, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Whether there is anything at `name`, following links within the root.
    pub(super) fn exists(&self, name: &str) -> bool {
        self.resolve(name, OFlags::PATH).is_ok()
    }

    /// Makes a file belong to the user and group `owner`.
    pub(super) fn give(&self, name: &str, owner: u32) -> Result<(), BuildError> {
        let path = self.path.join(name);
        let (parent, base) = self.parent(name).at(&path)?;
        let (uid, gid) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
        rustix::fs::chownat(&parent, base, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at(&path)
    }

    /// The text of a regular file of at most 4 MiB; `None` when there is none at `name`.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, BuildError> {
        let path = self.path.join(name);
        let fd = match self.resolve(name, OFlags::PATH) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.at(&path)?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&fd).at(&path)?.st_mode) != FileType::RegularFile {
            return Err(BuildError::Rootfs { reason: format!("/{name} is not a regular file") });
        }
        let mut bytes = Vec::new();
        let file = File::from(self.resolve(name, OFlags::RDONLY).at(&path)?);
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).at(&path)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(BuildError::Rootfs { reason: format!("/{name} is larger than 4 MiB") });
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Puts a file of root's at `name`, in place of whatever is there, a link included.
    pub(super) fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), BuildError> {
        let path = self.path.join(name);
        let (parent, base) = self.parent(name).at(&path)?;
        let _ = rustix::fs::unlinkat(&parent, TEMPORARY, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, TEMPORARY, flags, Mode::from_raw_mode(0o600)).at(&path)?;
        let mut file = File::from(fd);
        file.write_all(content).at(&path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at(&path)?;
        rustix::fs::renameat(&parent, TEMPORARY, &parent, base).at(&path)
    }

    /// Makes a directory unless something is there. Its parent must exist.
    pub(super) fn make_dir(&self, name: &str, mode: u32, owner: u32) -> Result<(), BuildError> {
        let path = self.path.join(name);
        let (parent, base) = self.parent(name).at(&path)?;
        match rustix::fs::mkdirat(&parent, base, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => return Ok(()),
            other => other.at(&path)?,
        }
        rustix::fs::chmodat(&parent, base, Mode::from_raw_mode(mode), AtFlags::empty()).at(&path)?;
        self.give(name, owner)
    }

    /// Removes a file or link; fine when there is none.
    pub(super) fn remove(&self, name: &str) -> Result<(), BuildError> {
        let gone = self.parent(name).and_then(|(dir, base)| rustix::fs::unlinkat(dir, base, AtFlags::empty()));
        match gone {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            other => other.at(&self.path.join(name)),
        }
    }

    /// The names in a directory; none when there is no such directory.
    pub(super) fn names(&self, name: &str) -> Result<Vec<String>, BuildError> {
        let Ok(fd) = self.resolve(name, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(Vec::new()) };
        let path = self.path.join(name);
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).at(&path)? {
            let entry = entry.at(&path)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn resolve(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve)
    }

    fn parent<'n>(&self, name: &'n str) -> Result<(OwnedFd, &'n str), Errno> {
        let (parent, base) = name.rsplit_once('/').unwrap_or((".", name));
        Ok((self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY)?, base))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_lead_out_end_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("real")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("passwd"), "host").unwrap();
        symlink(&outside, root.join("etc")).unwrap();
        symlink("../../outside", root.join("up")).unwrap();
        symlink(outside.join("passwd"), root.join("real/passwd")).unwrap();
        let root = RootDir::open(&root).unwrap();
        assert!(!root.is_dir("etc") && !root.is_dir("up"));
        assert!(root.write("etc/passwd", b"evil", 0o644).is_err());
        assert_eq!(root.read("real/passwd").unwrap(), None);
        root.write("real/passwd", b"new", 0o644).unwrap();
        assert_eq!(root.read("real/passwd").unwrap().as_deref(), Some("new"));
        assert_eq!(fs::read_to_string(outside.join("passwd")).unwrap(), "host");
    }
}
