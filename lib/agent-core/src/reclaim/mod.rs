//! Giving memory of an idle guest back: the kernel's caches of names and inodes, and files that were used once and not since.
//!
//! `docs/decisions/006-what-is-reclaimed.md` says why these and nothing else. `policy` decides, `linux` does, `task` runs the two
//! and keeps out of the way of snapshots.

mod budget;
mod figures;
pub(crate) mod linux;
mod policy;
mod task;

pub use policy::{MemorySample, ReclaimStep, Reclaimed};
pub(crate) use task::{Reclaimer, run};
