//! Many of everything: processes one after the other and at once, connections. Apart from the other tests, since these count what the
//! whole program holds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test crate: the lint settings for tests reach only test functions, not what they share"
)]

mod connections;
mod holdings;
mod processes;
#[expect(dead_code, unused_macros, unused_imports, reason = "shared with the other test crate, which needs all of it")]
#[path = "../api/support.rs"]
mod support;
