//! The server in front of a host that fails as told, over real sockets.

mod api;
mod builds;
mod fake_agent;
mod fake_host;
mod limits;
mod proxying;
mod server;
mod store;
