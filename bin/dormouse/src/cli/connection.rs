//! HTTP/1.1 over a connection of its own for each request.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Body of a request: from memory, or streamed from a file.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// Nobody listens.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] hyper::Error),
}

/// A body from memory.
pub(super) fn full(content: impl Into<Bytes>) -> RequestBody {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Sends a request. Dropping the answer's body, or this future, closes the connection, by which the daemon knows that
/// nobody waits any more.
pub(super) async fn send(
    addr: SocketAddr,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, ConnectionError> {
    let stream = TcpStream::connect(addr).await.map_err(|source| ConnectionError::Connect { addr, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
