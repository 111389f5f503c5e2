//! VMM backends behind one trait: start, restore, pause, save and end a virtual machine.
//!
//! [`Vmm`] is what this machine can start VMs with, [`Vm`] is one VM. The crate knows nothing of sandboxes, images or
//! the agent in the guest: it gives device state as an opaque file and paused RAM as [`PausedRam`], and takes both back.
//!
//! A VM's process outlives the process that started it: after a restart, [`Vmm::adopt`] takes it over again. Dropping
//! a [`Vm`] does not end it; [`Vm::kill`] does.
//!
//! The guest is hostile and the VMM process is only half trusted, since a guest may have broken into it. So whatever
//! the VMM says is bounded in size and in time, and its memory is read and never mapped.
#![forbid(unsafe_code)]

mod error;
mod extents;
mod fingerprint;
pub mod qemu;
mod qmp;
mod ram;
mod spec;
mod vm;

pub use error::{Result, VmmError};
pub use fingerprint::Fingerprint;
pub use qmp::QmpError;
pub use ram::{FollowedRam, PausedRam, RamFile, Restored};
pub use spec::{Boot, Disk, MacAddr, ParseMacError, UserNet, VmSpec};
pub use vm::{ExitReason, ProcessEnd, RunState, Vm, Vmm};
