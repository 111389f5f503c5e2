//! Ties a connection to the answer that flows over it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;

/// Ends a connection's task with whoever waits for it.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<hyper::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer's body that closes the agent's connection when it is dropped, so that the agent sees a client go away.
pub(super) struct Guarded {
    body: Incoming,
    // Dropping the sender would let the connection end before a long request body is through.
    _sender: SendRequest<Body>,
    _connection: AbortOnDrop,
}

impl Guarded {
    pub(super) fn new(body: Incoming, sender: SendRequest<Body>, connection: AbortOnDrop) -> Self {
        Self { body, _sender: sender, _connection: connection }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
