//! One request to one agent, streamed both ways.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Uri, Version, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::stream_guard::{AbortOnDrop, Guarded};
use crate::serve::auth;

/// Connecting on loopback takes no time at all, or the VMM hangs.
const CONNECT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection and not to the message (RFC 9110, 7.6.1), and those that are for us.
const NOT_PASSED_ON: [HeaderName; 12] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    // The guest must not learn the host's key.
    HeaderName::from_static(auth::API_KEY),
    HeaderName::from_static("e2b-traffic-access-token"),
];

/// Sends the request over a connection of its own and gives the answer as soon as its head is there. Bodies flow as
/// they come, for as long as they take. When the agent's side breaks off, so does the answer: the client's connection
/// ends without the last chunk, by which SDKs know that the sandbox is gone.
pub(crate) async fn forward(addr: SocketAddr, request: Request) -> Result<Response, String> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(addr)).await;
    let stream = connecting.map_err(|_| "no connection in time".to_owned())?.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = AbortOnDrop(tokio::spawn(connection));
    let response = sender.send_request(outgoing(request)?).await.map_err(|e| e.to_string())?;
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    Ok(Response::from_parts(head, Body::new(Guarded::new(body, sender, connection))))
}

fn outgoing(request: Request) -> Result<Request, String> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    head.uri = path.parse::<Uri>().map_err(|e| e.to_string())?;
    head.version = Version::HTTP_11;
    strip(&mut head.headers);
    Ok(Request::from_parts(head, body))
}

/// Removes what is not passed on, also what the `Connection` header names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_PASSED_ON.iter().chain(&named) {
        headers.remove(name);
    }
}
