//! All scenarios on real guests, in one program: they share one host, one template and one runtime.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "clippy's settings for tests reach only test functions, not what they share"
)]

mod agent;
mod agent_api;
mod checkpoints;
mod confinement;
mod ctrl_c;
mod cycles;
mod daemon;
mod faults;
mod free_pages;
mod lies;
mod paired;
mod processes;
mod reclaim;
mod reclaim_bench;
mod recovery;
mod remote;
mod round_trip;
mod sdk;
mod store;
mod templates;
mod volumes;
