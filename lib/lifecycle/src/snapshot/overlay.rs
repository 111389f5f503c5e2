//! Giving a VM its own copy of an overlay disk.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::{Error, Result};

/// Copies a disk image: by sharing its blocks where the file system can, else extent by extent, so that holes stay
/// holes. `to` must not exist.
pub(crate) fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    copy(from, to).map_err(|error| {
        // A half copy is of no use, and may be what fills the disk.
        let _ = std::fs::remove_file(to);
        Error::io(format!("copy {} to {}", from.display(), to.display()))(error)
    })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::options().write(true).create_new(true).open(to)?;
    if ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut at = 0;
    while at < len {
        let start = match seek(&source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(&source, SeekFrom::Hole(start))?;
        copy_extent(&source, &target, start, end)?;
        at = end;
    }
    Ok(())
}

fn copy_extent(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut write) = (start, start);
    while read < end {
        let want = usize::try_from(end - read).unwrap_or(usize::MAX);
        let copied = copy_file_range(source, Some(&mut read), target, Some(&mut write), want)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&a).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(&[7; 5000], (40 << 20) + 100).unwrap();
        file.sync_all().unwrap();
        copy(&a, &b).unwrap();
        assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
        let allocated = std::fs::metadata(&b).unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated} bytes for a few pages");
        assert!(copy(&a, &b).is_err(), "an existing disk is never overwritten");
    }
}
