//! A full file system as an error of its own, with figures.

use std::fs::File;
use std::io;
use std::path::Path;

use dormouse_guest_mem::Bytes;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::StoreError;

/// Gets room for the first `len` bytes of `file`, so that writing them cannot fail for want of it. Does nothing where the
/// file system cannot promise that.
pub(crate) fn reserve(file: &File, path: &Path, len: u64) -> Result<(), StoreError> {
    if len == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(failed(path, "given room", len, error.into())),
    }
}

/// The error for a write of at most `needed` more bytes at `path` that failed.
pub(crate) fn failed(path: &Path, doing: &'static str, needed: u64, source: io::Error) -> StoreError {
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    match available(path) {
        Some(available) if full => {
            StoreError::NoSpace { path: path.to_owned(), needed: Bytes(needed), available: Bytes(available) }
        }
        _ => StoreError::Io { path: path.to_owned(), doing, source },
    }
}

/// What the file system of `path`, or of the folder that it was to be in, has left for this user.
pub(crate) fn available(path: &Path) -> Option<u64> {
    let stat = statvfs(path).or_else(|error| path.parent().ok_or(error).and_then(statvfs)).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
