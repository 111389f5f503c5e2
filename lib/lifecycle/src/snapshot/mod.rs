//! Snapshots: taking one of a running VM, starting VMs from one, looking into one.

mod base_indexes;
mod captured;
mod device_state;
mod inspect;
mod needs;
mod overlay;
mod packs;
mod parent;
mod ram_cache;
mod remote;
mod report;
mod restore;
mod stored;
mod take;

pub(crate) use base_indexes::{BaseIndexes, file_in as base_index_file};
pub(crate) use device_state::check as check_device_state;
pub(crate) use needs::{list as list_dir, needs, snapshots_in};
pub(crate) use overlay::{EarlyCopy, copy_disk};
pub(crate) use packs::PackFolder;
pub(crate) use parent::PARENT_INDEX;
pub(crate) use ram_cache::RamCache;
pub(crate) use remote::{Behind, Elsewhere};
pub use remote::{RemoteFound, RemoteSetup};
pub(crate) use restore::{Made, OVERLAY, Start, discard, free_port, restore};
pub(crate) use stored::{Stored, allocated, remove_dir};
#[cfg(test)]
pub(crate) use take::lab;
pub(crate) use take::{Material, Subject, call_off, checkpoint, let_go_on, take};
