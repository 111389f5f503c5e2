//! Giving a VM its own copy of an overlay disk, or a snapshot a copy of a running VM's.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{SeekFrom, copy_file_range, inotify, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::{Error, Result};

/// Copies a disk image: by sharing its blocks where the file system can, else extent by extent, so that holes stay
/// holes. `to` must not exist.
pub(crate) fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    copy(from, to).map_err(|error| {
        // A half copy is of no use, and may be what fills the disk.
        let _ = fs::remove_file(to);
        Error::io(format!("copy {} to {}", from.display(), to.display()))(error)
    })
}

/// Times of files advance in ticks of 10 ms at most. What was changed this long ago shows every later change in its times.
const SETTLED: Duration = Duration::from_millis(30);

/// A copy of a disk image that is made while its VM runs, because most guests that have got ready for a snapshot do not write.
/// When the VM stands still it is seen whether this one did.
pub(crate) struct EarlyCopy {
    from: PathBuf,
    to: PathBuf,
    /// How the image was when the copy began. `None` if there is no copy.
    begun: Option<(Stamp, Watch)>,
}

/// Sees writes when they end. A write that had given the file its time before the copy began, and its bytes only afterwards, is seen
/// by this alone.
struct Watch(OwnedFd);

impl Watch {
    fn of(path: &Path) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY)?;
        Ok(Self(watch))
    }

    /// Whether no write has ended since this was made.
    fn saw_nothing(&self) -> bool {
        rustix::io::read(&self.0, &mut [0u8; 256]) == Err(Errno::AGAIN)
    }
}

/// Changes with every write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn last_change(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since
    }

    /// Of a file that was not changed for a while; waits once for that.
    fn settled(path: &Path) -> io::Result<Option<Self>> {
        for last in [false, true] {
            let stamp = Self::of(&fs::metadata(path)?);
            // A file from the future is never settled.
            let age = SystemTime::now().duration_since(stamp.last_change()).unwrap_or_default();
            if age > SETTLED {
                return Ok(Some(stamp));
            }
            if !last {
                std::thread::sleep(SETTLED + Duration::from_millis(1));
            }
        }
        Ok(None)
    }
}

impl EarlyCopy {
    /// Copies the image while its VM runs, and makes the VM's own writes durable, so that it has less to do when it stops.
    /// `to` must not exist. Without a copy in the end, that is made when the VM stands still.
    pub(crate) fn begin(from: &Path, to: &Path) -> Self {
        let made = || {
            File::open(from)?.sync_data()?;
            let watch = Watch::of(from)?;
            let Some(stamp) = Stamp::settled(from)? else { return Ok(None) };
            copy(from, to)?;
            Ok(Some((stamp, watch)))
        };
        let begun = made().unwrap_or_else(|error: io::Error| {
            tracing::debug!(%error, from = %from.display(), "no early copy");
            let _ = fs::remove_file(to);
            None
        });
        Self { from: from.to_owned(), to: to.to_owned(), begun }
    }

    /// To be called when the VM stands still: copies again if the image has changed. Whether it had to. Dropping this takes some
    /// 10 ms, which can wait.
    pub(crate) fn finish(&self) -> Result<bool> {
        let now = fs::metadata(&self.from).map_err(Error::io(format!("look at {}", self.from.display())))?;
        if self.begun.as_ref().is_some_and(|(stamp, watch)| *stamp == Stamp::of(&now) && watch.saw_nothing()) {
            return Ok(false);
        }
        if self.begun.is_some() {
            fs::remove_file(&self.to).map_err(Error::io(format!("remove {}", self.to.display())))?;
        }
        copy_disk(&self.from, &self.to)?;
        Ok(true)
    }
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
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn an_early_copy_stands_if_nothing_was_written_since() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, [5; 9000]).unwrap();
        let early = EarlyCopy::begin(&a, &b);
        fs::read(&a).unwrap();
        assert!(!early.finish().unwrap());
        assert!(fs::read(&b).unwrap() == [5; 9000]);
    }

    #[test]
    fn what_is_written_after_an_early_copy_began_is_in_the_final_one() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20u8 {
            let [a, b] = ["a", "b"].map(|name| dir.path().join(format!("{name}{round}")));
            let file = File::create(&a).unwrap();
            file.write_all_at(&[5; 9000], 0).unwrap();
            let early = EarlyCopy::begin(&a, &b);
            // At once: within one tick of the clock that files get their times from. The length stays.
            file.write_all_at(&[round], 4500).unwrap();
            assert!(early.finish().unwrap());
            assert_eq!(fs::read(&b).unwrap()[4500], round);
        }
    }

    #[test]
    fn a_write_that_does_not_show_in_the_times_is_seen_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&a).unwrap();
        file.write_all_at(&[5; 9000], 0).unwrap();
        let mut early = EarlyCopy::begin(&a, &b);
        file.write_all_at(&[6], 4500).unwrap();
        early.begun.as_mut().unwrap().0 = Stamp::of(&fs::metadata(&a).unwrap());
        assert!(early.finish().unwrap());
        assert_eq!(fs::read(&b).unwrap()[4500], 6);
    }

    #[test]
    fn a_disk_that_is_written_all_the_time_is_copied_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&a).unwrap();
        file.write_all_at(&[5; 9000], 0).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let early = EarlyCopy::begin(&a, &b);
        assert!(!b.exists(), "its times say nothing");
        assert!(early.finish().unwrap());
        assert!(fs::read(&b).unwrap() == [5; 9000]);
    }

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
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
        let allocated = fs::metadata(&b).unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated} bytes for a few pages");
        assert!(copy(&a, &b).is_err(), "an existing disk is never overwritten");
    }
}
