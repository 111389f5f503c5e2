//! The agent's side of a snapshot: freeze, prepare, abort, restore, and the watchdog between them.

mod activity;
mod facts;
mod freeze;
mod freezer;
mod per_cpu_lists;
mod phase;
mod prepare;
mod restore;
mod routes;
mod steps;

pub(crate) use phase::Snapshot;
pub(crate) use restore::{begin_restore, finish_restore};
pub(crate) use routes::{abort, freeze, health, prepare, refuse_while_prepared, unfreeze};
