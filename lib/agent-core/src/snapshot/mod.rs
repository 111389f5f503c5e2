//! The agent's side of a snapshot: prepare, abort, restore, and the watchdog between them.

mod activity;
mod facts;
mod freezer;
mod per_cpu_lists;
mod phase;
mod prepare;
mod routes;
mod steps;

pub(crate) use phase::Snapshot;
pub(crate) use routes::{abort, prepare, refuse_while_prepared};
