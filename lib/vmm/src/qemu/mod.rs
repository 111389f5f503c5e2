//! The QEMU backend: machine type q35, emulated (TCG) or with KVM.
//!
//! A VM's RAM is never part of its device state. A booted VM has it in a memfd, which QEMU seals against being
//! resized; a restored one maps the given file privately and read-only, so that what it writes stays its own. The
//! state is what `xen-save-devices-state` writes, loaded as an incoming migration.

mod adopt;
mod backend;
mod command_line;
mod connect;
mod launch;
mod layout;
mod maps;
mod probe;
mod process;
mod ram_clone;
mod ram_followed;
mod ram_memfd;
mod record;
mod tail;
mod vm;

#[cfg(test)]
mod tests;

pub use probe::{Accel, Deadlines, KvmState, ProbeError, Qemu, QemuFacts, QemuOptions};
