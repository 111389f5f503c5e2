//! Booting a guest as PID 1: from the initramfs to a joined root file system with network.
//!
//! The disks: `/dev/vda` is the base (ext4, read-only), `/dev/vdb` the sandbox's overlay (ext4, formatted before).

mod cmdline;
mod console;
mod modules;
mod mounts;
mod netlink;
mod network;
mod rootfs;

pub use console::log;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::agent::Guest;
use crate::cgroups;
use crate::kernel::Linux;
use cmdline::Cmdline;

/// Reads `text` as a command line and as an interface's address.
#[cfg(feature = "testing")]
pub(crate) fn read_any(text: &str) {
    Cmdline::parse(text);
    cmdline::mac(text);
}

/// Where the overlay disk stays mounted in the booted guest.
const OVERLAY: &str = "/run/dormouse/overlay";
/// Where the cgroup hierarchy is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Why a boot failed.
#[derive(Debug, Error)]
#[error("cannot {what}")]
pub struct BootError {
    what: String,
    source: std::io::Error,
}

trait Doing<T> {
    /// Names what was being done.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BootError>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BootError> {
        self.map_err(|error| BootError { what: what(), source: error.into() })
    }
}

/// A booted guest.
#[derive(Clone, Debug)]
pub struct Booted {
    /// What the agent may do to it.
    pub guest: Guest,
    /// Its addresses other than the loopback's.
    pub addresses: Vec<IpAddr>,
}

/// Boots. To be called once, first thing, by a process that is PID 1 of a guest in its initramfs.
pub fn boot() -> Result<Booted, BootError> {
    mounts::early()?;
    let cmdline = Cmdline::parse(&std::fs::read_to_string("/proc/cmdline").doing(|| "read /proc/cmdline".into())?);
    modules::load_all(Path::new("/dormouse"))?;
    rootfs::switch()?;
    mounts::late()?;
    if let Some(name) = &cmdline.hostname {
        crate::init::set_hostname(&Linux, Path::new("/"), name).doing(|| format!("set the host name {name}"))?;
    }
    network::configure(&cmdline)?;
    let cgroups = cgroups::make(Path::new(CGROUPS), log).doing(|| format!("make cgroups in {CGROUPS}"))?;
    protect_from_oom();
    let guest = Guest { overlay: PathBuf::from(OVERLAY), cgroups, root: PathBuf::from("/"), kernel: Arc::new(Linux) };
    let addresses = cmdline.ip.into_iter().map(|ip| ip.address.into()).collect();
    Ok(Booted { guest, addresses })
}

/// Loads the modules that are listed in `directory`, as [`boot`] loads those of the initramfs.
pub(crate) fn load_modules(directory: &Path) -> std::io::Result<()> {
    modules::load_all(directory).map_err(|error| error.source)
}

/// PID 1 is never killed, but its memory would count; children take the score back.
fn protect_from_oom() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        log(&format!("cannot lower the own OOM score: {error}"));
    }
}

/// Tells the reason on the console and powers the guest off. Returns only if even that fails.
pub fn fail(reason: &str) {
    log(reason);
    power_off();
}

/// Flushes the disks and powers the guest off.
pub fn power_off() {
    rustix::fs::sync();
    if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::PowerOff) {
        log(&format!("cannot power off: {error}"));
    }
}
