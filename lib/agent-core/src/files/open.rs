//! Opening files that may be anything by the time they are opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// A regular file that was found and not opened yet. It stays the same file whatever happens to its path.
pub(super) struct Regular(OwnedFd);

impl Regular {
    /// Finds the file at `path`, links followed. A pipe is not waited for and a device not touched: both are `InvalidInput`.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self(found))
    }

    pub(super) fn is_empty(&self) -> bool {
        fstat(&self.0).is_ok_and(|stat| stat.st_size == 0)
    }

    /// Whether both are one file.
    pub(super) fn is(&self, other: &Self) -> bool {
        let identity = |one: &Self| fstat(&one.0).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        identity(self).is_some_and(|own| identity(other) == Some(own))
    }

    /// A path by which this very file can be opened while `self` lives (proc_pid_fd(5)).
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Opens it for reading. Not blocking: some files of the kernel wait for what to tell.
    pub(super) fn read(&self) -> io::Result<File> {
        Ok(openat(CWD, self.path(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Opens it for writing and empties it.
    pub(super) fn overwrite(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(CWD, self.path(), flags, Mode::empty())?.into())
    }
}

/// Links that lead to each other.
pub(super) fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
