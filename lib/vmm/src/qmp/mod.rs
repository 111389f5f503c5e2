//! QEMU's control protocol: one JSON object per line over a local socket.
//!
//! Protocol: `docs/interop/qmp-spec.rst` in QEMU's source. QEMU is only half trusted, so the length of its messages,
//! the time it takes, and what is kept of what it says are all bounded.

mod client;
mod protocol;

pub use protocol::QmpError;

pub(crate) use client::Qmp;
