//! The agent's ends of pipes and terminals: non-blocking, driven by readiness.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One open end. Clones share it; it closes with the last.
#[derive(Clone, Debug)]
pub(super) struct Endpoint(Arc<AsyncFd<OwnedFd>>);

impl Endpoint {
    #[expect(
        deprecated,
        reason = "unsound only for a descriptor that closes early; this one is owned, and the new way is unsafe"
    )]
    pub(super) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(Arc::new(AsyncFd::with_interest(fd, interest)?)))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Waits for bytes. 0 at the end; a terminal whose other side is closed is at its end too.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                return end_of_terminal(read);
            }
        }
    }

    /// Takes what is there without waiting: 0 when nothing is.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(self.fd(), buffer) {
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            other => end_of_terminal(other.map_err(io::Error::from)),
        }
    }

    /// Writes all of `bytes`, at the reader's pace.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                bytes = bytes.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

fn end_of_terminal(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(0),
        other => other,
    }
}
