//! The agent as it runs: a process of its own, whose memory and descriptors are nobody else's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test crate: the lint settings for tests reach only test functions, not what they share"
)]

mod connections;
mod running;
mod transfer;
