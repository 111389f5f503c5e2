//! The agent's side of a snapshot: freeze, prepare, abort, restore, and the watchdog between them.

mod activity;
mod facts;
mod freeze;
mod freezer;
mod per_cpu_lists;
mod phase;
mod prepare;
mod record;
mod restore;
mod routes;
mod steps;

/// Reads `text` as memory figures, as a command line and as what a cgroup says.
#[cfg(feature = "testing")]
pub(crate) fn read_any(text: &str) {
    crate::proc::Meminfo::parse(text);
    facts::checks_free_pages(text);
    freezer::is_frozen(text);
}

pub(crate) use phase::Snapshot;
pub(crate) use restore::{begin_restore, finish_restore};
pub(crate) use routes::{abort, freeze, health, prepare, refuse_while_prepared, unfreeze};
