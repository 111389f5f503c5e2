//! One inotify instance, with owned notices.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of notices taken at a time; the longest single one has 272.
const READ: usize = 16 * 1024;

/// The kernel's name of a watched directory (inode). Numbers are not given out again soon (`idr_alloc_cyclic` in
/// fs/notify/inotify/inotify_user.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WatchId(i32);

/// What the kernel says.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) watch: WatchId,
    pub(super) what: ReadFlags,
    /// Joins the two halves of a rename.
    pub(super) cookie: u32,
    /// The entry in the watched directory; `None` is the directory itself.
    pub(super) name: Option<OsString>,
}

#[derive(Debug)]
pub(super) struct Inotify(OwnedFd);

impl Inotify {
    pub(super) fn new() -> Result<Self, Errno> {
        inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map(Self)
    }

    /// Lets a task wait for notices.
    #[expect(
        deprecated,
        reason = "unsound only for a descriptor that closes early; this one is owned, and the new way is unsafe"
    )]
    pub(super) fn ready(self: Arc<Self>) -> std::io::Result<AsyncFd<Arc<Self>>> {
        AsyncFd::with_interest(self, Interest::READABLE)
    }

    /// Watches the directory `path`; the same directory again gets the same id.
    pub(super) fn watch(&self, path: &Path, follow_link: bool) -> Result<WatchId, Errno> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        if !follow_link {
            flags |= WatchFlags::DONT_FOLLOW;
        }
        inotify::add_watch(&self.0, path, flags).map(WatchId)
    }

    /// Ends a watch, which may have ended by itself.
    pub(super) fn unwatch(&self, watch: WatchId) {
        let _ = inotify::remove_watch(&self.0, watch.0);
    }

    /// Some of the notices that wait; none when none do.
    pub(super) fn read(&self) -> Result<Vec<Notice>, Errno> {
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut notices = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => notices.push(Notice {
                    watch: WatchId(event.wd()),
                    what: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
                }),
                Err(Errno::AGAIN) => return Ok(notices),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            if reader.is_buffer_empty() {
                return Ok(notices);
            }
        }
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
