//! Closing a connection so that the client can read what it was told last.
//!
//! Here ends what hyper itself refuses (a head that is too long or no HTTP), and what a client goes on sending past the bounds of
//! [`super::unwanted_body`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::unread::Unread;

/// Most that is read after the end, and the piece that is read at once.
const MOST: usize = 64 << 20;
const PIECE: usize = 16 * 1024;

/// A connection. Its shutdown tells the client that nothing follows; if the client may still be sending, that is read and thrown away
/// until it closes too, or for `patience`.
pub(super) struct Lingering {
    stream: TcpStream,
    unread: Unread,
    patience: Duration,
    closing: Option<Closing>,
}

struct Closing {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream, unread: Unread, patience: Duration) -> Self {
        Self { stream, unread, patience, closing: None }
    }

    /// Ready when there is no use in waiting any longer.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = &mut self.closing else { return Poll::Ready(()) };
        let mut piece = [0; PIECE];
        while closing.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut piece);
            if ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)).is_err() {
                return Poll::Ready(());
            }
            match (buffer.filled().len(), closing.left) {
                (size @ 1.., left) if size <= left => closing.left = left.saturating_sub(size),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.unread.came();
        }
        read
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.unread.is_open() {
                return Poll::Ready(Ok(()));
            }
            self.closing = Some(Closing { until: Box::pin(sleep(self.patience)), left: MOST });
        }
        self.poll_rest(context).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
