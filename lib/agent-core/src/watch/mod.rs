//! Watching directories with inotify(7).
//!
//! [`Tree`] knows which directories are watched and what they are called, [`Watcher`] turns notices into events and queues them,
//! [`Watchers`] bounds how many there are. Nothing is ever lost silently: what cannot be told exactly ends the watch with an error.

mod error;
mod event;
mod inotify;
mod mounts;
mod queue;
mod registry;
mod tree;
mod watcher;

pub(crate) use registry::{Watchers, Watching};
pub(crate) use watcher::WatchSpec;
