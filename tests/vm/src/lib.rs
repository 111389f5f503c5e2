//! Scenarios on real guests: a Debian kernel under QEMU, the real agent, the real daemon.
//!
//! One state folder below the target folder is shared by all scenarios, so that the template is built once. Scenarios
//! that break things (kill the daemon, fill the disk, damage files) get a state folder of their own, which starts
//! with that template ([`fresh`]). `cargo xtask dist` must have run: the scenarios use its binaries.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "this crate is test support: what goes wrong ends the test"
)]

mod booted;
mod cli;
mod fresh;
mod guest;
mod http;
mod lab;
mod ram;

pub use booted::{Booted, Machine, scratch};
pub use cli::{Daemon, Ran, processes_of, qemus_of};
pub use fresh::{FreshState, pack_file};
pub use guest::{Guest, Output};
pub use http::status_of;
pub use lab::{TEMPLATE, binary, block_on, host, host_with, new_sandbox, sandbox, state_dir, vm_pid, vmm};
pub use ram::{differences, oracle_buddy, ram_bytes};
