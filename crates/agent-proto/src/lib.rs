//! What host and guest agent say to each other: Connect RPC services and the JSON bodies of the control routes.
#![forbid(unsafe_code)]

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
/// Generated messages, service traits and clients.
pub mod proto {
    connectrpc::include_generated!();
}

/// Messages and service of `filesystem.Filesystem`.
pub use proto::filesystem;
/// Messages and service of `process.Process`.
pub use proto::process;

#[cfg(feature = "client")]
pub mod client;
pub mod control;
