//! The guest agent's subsystems, each a module named by its concept. They run inside a guest as well as in a plain process.
#![forbid(unsafe_code)]

mod access;
mod agent;
pub mod boot;
mod bounded_file;
mod cgroups;
mod descriptors;
mod files;
mod filesystem;
mod identity;
mod init;
mod kernel;
mod metrics;
mod offload;
mod ports;
mod proc;
mod process;
mod reclaim;
mod server;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

pub use agent::{Agent, AgentOptions, Durations, Guest};
pub use cgroups::Cgroups;
pub use descriptors::raise_descriptor_limit;
pub use init::Volume;
pub use kernel::{GuestKernel, Linux};
pub use reclaim::{MemorySample, ReclaimStep, Reclaimed};
pub use server::{listen, serve};
