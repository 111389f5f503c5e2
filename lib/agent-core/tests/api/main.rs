//! The agent's API, driven over loopback by the typed client and by plain HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test crate: the lint settings for tests reach only test functions, not what they share"
)]

mod access;
mod attach;
mod compose;
mod conditions;
mod cors;
mod ending;
mod files;
mod filesystem;
mod grpc;
mod hostile;
mod metrics;
mod ports;
mod processes;
mod reclaim;
mod refused;
mod restore;
mod settings;
mod snapshot;
mod support;
mod volumes;
mod watch;
mod watch_stream;
mod wire;
