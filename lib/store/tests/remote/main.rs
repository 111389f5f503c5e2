//! The remote, against a real S3 server in this process and a folder: what goes up, what comes down, and what happens when
//! either side fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod collect;
mod crash;
mod down;
mod faults;
mod rig;
mod up;
