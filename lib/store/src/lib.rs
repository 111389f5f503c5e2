//! Where packs live, and which of them are still needed.
//!
//! A pack is an immutable file named by its [`PackId`]. [`Packs`] is the folder that holds them: it takes a pack in only
//! after checking it, shows it whole or not at all whatever crashes, and lets none go that is pinned or referenced.
//! [`gc`] and [`cache`] decide what may go; both are plain data in, plain data out.
//!
//! A snapshot's owner stages a pack, lets `dormouse_image` write it, puts it (which pins it), publishes the manifest, says
//! [`Packs::refer`], and lets go of the pin. To remove a snapshot it removes the folder, says [`Packs::unrefer`], and
//! collects when it likes.
//!
//! The local part is synchronous and blocks on file I/O. One process at a time works on a folder: its owner holds a lock
//! (the daemon's state folder has one). All packs of a folder belong to one tenant: a daemon serves one.
#![forbid(unsafe_code)]

pub mod cache;
mod check;
mod durable;
mod error;
pub mod gc;
mod local;
mod names;
pub mod remote;
mod room;
mod steps;

pub use check::{CheckError, ImagePacks, PackCheck};
pub use error::StoreError;
pub use local::{Collected, PackInfo, Packs, Pins, StagedPack};
pub use names::{BadSnapshotName, SnapshotName};
pub use steps::Steps;

pub use dormouse_image::PackId;
