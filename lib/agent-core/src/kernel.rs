//! What the agent changes in the kernel of its guest, at the start of a life and later. A trait, so that tests see the order of the changes
//! without making them.

use std::ffi::CString;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::bounded_file;
use crate::init::{Volume, VolumePorts, clock, nfs_client};
use crate::reclaim::{MemorySample, ReclaimStep, Reclaimed, linux};

/// The kernel of a guest. Calls may block; each is made at most once at a time, those of volumes once for each place.
pub trait GuestKernel: Debug + Send + Sync {
    /// Steps the clock forward to `time` if it lags, never back.
    fn step_clock(&self, time: Timestamp) -> io::Result<()>;
    /// Time of the hardware clock, which the host keeps right across a pause. Whole seconds.
    fn hardware_clock(&self) -> io::Result<Timestamp>;
    /// Makes the random generator take a new key at once: from `host_bytes`, and from what hardware gives.
    fn reseed(&self, host_bytes: &[u8]) -> io::Result<()>;
    /// Sets the kernel's host name.
    fn set_hostname(&self, name: &str) -> io::Result<()>;
    /// Mounts a volume. May wait for its server for long.
    fn mount(&self, volume: &Volume) -> io::Result<()>;
    /// Takes what is mounted at `path` away; `lazy` from the tree at once, though it may still be in use.
    fn unmount(&self, path: &Path, lazy: bool) -> io::Result<()>;
    /// How its memory is used now.
    fn memory(&self) -> io::Result<MemorySample>;
    /// Takes memory that is not in use.
    fn reclaim(&self, step: ReclaimStep) -> io::Result<Reclaimed>;
}

/// The kernel that this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// Seconds since 1970 of the real-time clock (Documentation/ABI/testing/sysfs-class-rtc).
const HARDWARE_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";
/// The host's generator behind virtio-rng, where the kernel has a driver for it.
const HARDWARE_RANDOM: &str = "/dev/hwrng";

impl GuestKernel for Linux {
    fn step_clock(&self, time: Timestamp) -> io::Result<()> {
        clock::step_forward(time)
    }

    fn hardware_clock(&self) -> io::Result<Timestamp> {
        let text = bounded_file::read(HARDWARE_CLOCK, 64)?;
        let seconds = text.trim().parse::<i64>().map_err(io::Error::other)?;
        Timestamp::from_second(seconds).map_err(io::Error::other)
    }

    fn reseed(&self, host_bytes: &[u8]) -> io::Result<()> {
        if !host_bytes.is_empty() {
            dormouse_agent_sys::add_entropy(host_bytes)?;
        }
        // Good to have and not needed: drawing a new key mixes in the CPU's random instruction (drivers/char/random.c).
        if let Ok(bytes) = hardware_random() {
            dormouse_agent_sys::add_entropy(&bytes)?;
        }
        dormouse_agent_sys::reseed()
    }

    fn set_hostname(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }

    fn mount(&self, volume: &Volume) -> io::Result<()> {
        nfs_client::ensure()?;
        std::fs::create_dir_all(&volume.path)?;
        let try_by = |ports| {
            let options = CString::new(volume.options(ports))?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            Ok(rustix::mount::mount(volume.source(), &volume.path, "nfs", flags, Some(options.as_c_str()))?)
        };
        try_by(VolumePorts::One).or_else(|_: io::Error| try_by(VolumePorts::Mapped))
    }

    fn unmount(&self, path: &Path, lazy: bool) -> io::Result<()> {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        Ok(rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW)?)
    }

    fn memory(&self) -> io::Result<MemorySample> {
        linux::here().look()
    }

    fn reclaim(&self, step: ReclaimStep) -> io::Result<Reclaimed> {
        linux::here().reclaim(step)
    }
}

fn hardware_random() -> io::Result<[u8; 32]> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut device: File = OpenOptions::new().read(true).custom_flags(flags).open(HARDWARE_RANDOM)?;
    let mut bytes = [0; 32];
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}
