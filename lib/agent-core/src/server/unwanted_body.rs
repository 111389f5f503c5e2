//! Bodies of requests that are answered before they have been read.
//!
//! A refused client is told so at once, but it may read that only after it has sent everything. If its connection were closed
//! meanwhile, the kernel would answer the rest with a reset: the client's next write would fail and the answer could be lost
//! (RFC 9112, section 9.6). So the rest is read and thrown away, within bounds; then the connection is as good as new.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::unread::Unread;

/// Most of one body that is thrown away: it costs time, and no memory.
const MOST: usize = 1 << 30;
/// Longest that one body is thrown away.
const LONGEST: Duration = Duration::from_secs(30);

/// The body of a request. Dropped before its end, what is left of it is thrown away.
pub(super) struct RequestBody {
    /// `None` after its end or a failure.
    body: Option<Incoming>,
    /// The client sends the body only when it is asked to, which reading it does.
    waits: bool,
    unread: Unread,
    patience: Duration,
}

impl RequestBody {
    /// Takes the place of the body of `request`. A client that sends nothing for `patience` of what nobody wants is given up on.
    pub(super) fn put_in(request: Request<Incoming>, unread: &Unread, patience: Duration) -> Request<Self> {
        let waits = request.headers().contains_key(EXPECT);
        let unread = unread.clone();
        request.map(|body| Self { body: Some(body), waits, unread, patience })
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            self.unread.settled();
        }
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() {
            self.unread.settled();
        } else if !self.waits {
            tokio::spawn(throw_away(body, self.unread.clone(), self.patience));
        }
    }
}

/// Reads `body` to its end, or drops it, which closes the connection for reading.
async fn throw_away(mut body: Incoming, unread: Unread, patience: Duration) {
    let reading = async {
        let mut left = MOST;
        while let Ok(frame) = timeout(patience, body.frame()).await {
            let Some(frame) = frame else { return unread.settled() };
            let size = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            match (frame, left.checked_sub(size)) {
                (Ok(_), Some(less)) => left = less,
                _ => return,
            }
        }
    };
    // In vain: what came stays unread.
    let _ = timeout(LONGEST, reading).await;
    drop(body);
    unread.give_up();
}
