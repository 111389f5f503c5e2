//! HTTP server, of HTTP/1.1 and of HTTP/2 for clients that know beforehand: routes, connections, error bodies.

mod answer;
mod connection;
mod connections;
mod cors;
mod error;
mod event_stream;
mod http1;
mod http2;
mod linger;
mod listener;
mod quality;
mod request_body;
mod routes;
#[cfg(feature = "testing")]
mod testing;
mod unread;
mod unwanted_body;

pub(crate) use connections::{ConnectionId, Connections};
pub(crate) use error::HttpError;
pub(crate) use event_stream::{event_stream, keepalive};
pub use listener::{listen, serve};
pub(crate) use quality::weighed;
#[cfg(feature = "testing")]
pub use testing::Requests;
