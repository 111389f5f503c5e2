//! HTTP/1.1 server: routes, connections, error bodies.

mod answer;
mod connections;
mod error;
mod listener;
mod request_body;
mod routes;
#[cfg(feature = "testing")]
pub mod testing;

pub(crate) use connections::{ConnectionId, Connections};
pub(crate) use error::HttpError;
pub use listener::{listen, serve};
