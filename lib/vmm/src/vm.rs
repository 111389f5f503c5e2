//! The two traits that every backend implements.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, RamLayout};

use crate::{Boot, Fingerprint, FollowedRam, PausedRam, Result, VmSpec};

/// A way to run VMs on this machine.
///
/// Every VM has a folder of its own, which must exist, belongs to the caller, and takes the VM's sockets and its
/// record. Nothing is written outside of it, except to the spec's writable disks. A call that fails, or whose future
/// is dropped, leaves no process behind.
#[async_trait]
pub trait Vmm: Send + Sync {
    /// What a device state of a VM with this spec depends on. A state may be restored only where it is equal.
    fn fingerprint(&self, spec: &VmSpec) -> Fingerprint;

    /// Where this much RAM lies in the guest and in the RAM file.
    ///
    /// # Errors
    /// [`BadSpec`](crate::VmmError::BadSpec) or [`Layout`](crate::VmmError::Layout) for a size that no VM can have.
    fn layout(&self, ram: Bytes) -> Result<RamLayout>;

    /// Starts a VM with empty RAM. It runs when this returns, which says nothing about whether the guest came up.
    ///
    /// # Errors
    /// [`HostPortTaken`](crate::VmmError::HostPortTaken), [`Gone`](crate::VmmError::Gone) with what the VMM said,
    /// [`Deadline`](crate::VmmError::Deadline), or what is wrong with the spec.
    async fn boot(&self, dir: &Path, spec: &VmSpec, boot: &Boot) -> Result<Arc<dyn Vm>>;

    /// Starts a VM from a device state and a RAM file of the spec's size, both from the same pause. It is paused when
    /// this returns.
    ///
    /// The RAM file is opened read-only and mapped privately: any number of VMs may run from it, and none changes it.
    /// It must not change nor be removed while one of them lives. The state file is not needed any more afterwards.
    ///
    /// # Errors
    /// As [`boot`](Self::boot), and [`StateRefused`](crate::VmmError::StateRefused).
    async fn restore(&self, dir: &Path, spec: &VmSpec, state: &Path, ram: &Path) -> Result<Arc<dyn Vm>>;

    /// Takes over the VM that a former process started in `dir`. What the guest printed before is not known.
    ///
    /// # Errors
    /// [`NotAdoptable`](crate::VmmError::NotAdoptable) with the reason. A process that is known to be this VM's but
    /// cannot be used, because it hangs or was still starting, is ended.
    async fn adopt(&self, dir: &Path) -> Result<Arc<dyn Vm>>;
}

/// One VM. Dropping it leaves the VM running; see [`Vmm::adopt`].
///
/// Every call ends in bounded time, also when the VMM hangs ([`Deadline`](crate::VmmError::Deadline)) or is gone
/// ([`Gone`](crate::VmmError::Gone)).
#[async_trait]
pub trait Vm: Send + Sync {
    /// The VMM's process id. May belong to another process once the VM is gone.
    fn pid(&self) -> u32;

    /// What the VM was started with.
    fn spec(&self) -> &VmSpec;

    /// Where the forwarded guest port is reached. Connections are accepted even when nothing listens in the guest.
    fn agent_addr(&self) -> SocketAddr;

    /// Where the RAM lies.
    fn layout(&self) -> &RamLayout;

    /// What the VM does at the moment.
    ///
    /// # Errors
    /// When the VMM is gone or does not answer.
    async fn run_state(&self) -> Result<RunState>;

    /// Stops the virtual CPUs and waits for disk requests under way. Harmless when paused already.
    ///
    /// # Errors
    /// When the VMM is gone or does not answer; whether the guest still runs is then unknown.
    async fn pause(&self) -> Result<()>;

    /// Lets the virtual CPUs run. Harmless when running already.
    ///
    /// # Errors
    /// When the VMM is gone or does not answer; whether the guest runs is then unknown.
    async fn resume(&self) -> Result<()>;

    /// Writes the state of CPUs and devices, without RAM, to a new file of this name in the VM's folder and gives its
    /// path. The file is not synced to disk. The VM stays paused, and two saves of one pause are equal.
    ///
    /// # Errors
    /// [`WrongState`](crate::VmmError::WrongState) unless paused; a name that is not a plain file name.
    async fn save_device_state(&self, file_in_dir: &str) -> Result<PathBuf>;

    /// The RAM, to be read while the VM stays paused; after [`resume`](Self::resume) what it gives is a mixture.
    /// Blocks for up to 20 ms per GiB that a restored VM wrote. Reads fail once the VM is gone.
    ///
    /// # Errors
    /// [`WrongState`](crate::VmmError::WrongState) unless this object paused the VM or found it paused;
    /// [`Ram`](crate::VmmError::Ram) if the process does not show its RAM as expected.
    fn paused_ram(&self) -> Result<Box<dyn PausedRam>>;

    /// Begins to follow which pages the VM writes, so that its RAM can be copied while it runs. Blocks for some 30 ms per GiB that
    /// it wrote, and for a second at most if it does not let itself be followed.
    ///
    /// # Errors
    /// [`Ram`](crate::VmmError::Ram) if this system or this kind of VM offers no way to. The VM is as it was.
    fn follow_ram(&self) -> Result<Box<dyn FollowedRam>>;

    /// Size of the RAM that the VM has written since it was started, at the moment: it may run. Blocks as long as
    /// [`paused_ram`](Self::paused_ram).
    ///
    /// # Errors
    /// [`Ram`](crate::VmmError::Ram) if the process does not show its RAM as expected.
    fn ram_written(&self) -> Result<Bytes>;

    /// The last `bytes` that the guest printed on its console, as far as they are kept: a bounded number, and only
    /// since this object exists. Hostile bytes.
    async fn console_tail(&self, bytes: usize) -> Vec<u8>;

    /// Ends the process at once and waits until it is gone. Its sockets and its record are removed from the folder.
    /// Harmless when it is gone already.
    ///
    /// # Errors
    /// [`Deadline`](crate::VmmError::Deadline) when the kernel does not end it, such as in a stuck disk request.
    async fn kill(&self) -> Result<()>;

    /// Waits until the process is gone, for whatever reason.
    async fn exited(&self) -> ExitReason;
}

/// What a VM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The virtual CPUs run.
    Running,
    /// The virtual CPUs are stopped and can go on.
    Paused,
    /// Not started, or device state is being loaded.
    Starting,
    /// Stopped by a fault of the guest or of a disk, or in a way that is not expected here.
    Failed,
}

/// How a VM ended, with what was last heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReason {
    /// How its process ended.
    pub end: ProcessEnd,
    /// Last lines that the VMM wrote to its error output, made printable. Empty for an adopted VM.
    pub vmm_said: String,
    /// Last lines that the guest printed on its console, made printable.
    pub guest_said: String,
}

/// How a VMM process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// By [`Vm::kill`], or because its start was given up.
    Killed,
    /// By itself. Code 0 when the guest powered off or reset.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal that did not come from here.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It is gone; how is not known, since it was not our child.
    Unknown,
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("it was killed on request"),
            Self::Exited { code: 0 } => f.write_str("the guest powered off or reset"),
            Self::Exited { code } => write!(f, "the VMM ended with exit code {code}"),
            Self::Signalled { signal } => write!(f, "the VMM was ended by signal {signal}"),
            Self::Unknown => f.write_str("the VMM ended"),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)?;
        if !self.vmm_said.is_empty() {
            write!(f, "; the VMM last said:\n{}", self.vmm_said)?;
        }
        if !self.guest_said.is_empty() {
            write!(f, "; the guest last printed:\n{}", self.guest_said)?;
        }
        Ok(())
    }
}
