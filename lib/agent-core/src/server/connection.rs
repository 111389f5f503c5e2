//! One connection: which HTTP it speaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt;

use super::answer::AnswerBody;
use super::connections::{ConnectionId, Order};
use super::{http1, http2};
use crate::agent::Agent;

/// How a client that knows beforehand that this server speaks HTTP/2 begins (RFC 9113, section 3.4). No method has this name.
const HTTP2: &[u8; 3] = b"PRI";

/// What answers the requests of a connection.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) agent: Arc<Agent>,
    pub(super) routes: Router,
    pub(super) id: ConnectionId,
}

impl Answers {
    /// Answers one request, which counts as under way from now on until the answer's body has ended.
    pub(super) fn answer<B>(
        &self,
        mut request: Request<B>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        request.extensions_mut().insert(self.id);
        let answering = self.agent.connections.answering(self.id);
        let routes = self.routes.clone();
        async move {
            let Ok(response) = routes.oneshot(request.map(Body::new)).await;
            Ok(response.map(|inner| AnswerBody { inner, answering }))
        }
    }
}

/// Serves `stream` until either end closes it.
pub(super) async fn serve(stream: TcpStream, answers: Answers, mut orders: watch::Receiver<Order>) {
    // A failure only costs latency.
    let _ = stream.set_nodelay(true);
    let limit = answers.agent.durations.request_head;
    match begins_as_http2(&stream, limit, &mut orders).await {
        Some(true) => http2::serve(stream, answers, orders).await,
        Some(false) => http1::serve(stream, answers, orders).await,
        None => {}
    }
}

/// Looks at what a client sends first; a look is free of memory. `None` when that does not come in time, or before the connection is to
/// close. A client that sends less than three bytes at first has no reason to, and is taken for one of HTTP/1.1.
async fn begins_as_http2(stream: &TcpStream, limit: Duration, orders: &mut watch::Receiver<Order>) -> Option<bool> {
    let mut first = [0; HTTP2.len()];
    tokio::select! {
        seen = tokio::time::timeout(limit, stream.peek(&mut first)) => {
            let count = seen.ok()?.ok()?;
            (count > 0).then_some(&first == HTTP2)
        }
        _ = orders.wait_for(|order| *order != Order::Serve) => None,
    }
}
