//! What the agent changes in the kernel of its guest at the start of a life. A trait, so that tests see the order of the changes
//! without making them.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::bounded_file;
use crate::init::clock;

/// The kernel of a guest. Calls may block; each is made at most once at a time.
pub trait GuestKernel: Debug + Send + Sync {
    /// Steps the clock forward to `time` if it lags, never back.
    fn step_clock(&self, time: Timestamp) -> io::Result<()>;
    /// Time of the hardware clock, which the host keeps right across a pause. Whole seconds.
    fn hardware_clock(&self) -> io::Result<Timestamp>;
    /// Makes the random generator take a new key at once: from `host_bytes`, and from what hardware gives.
    fn reseed(&self, host_bytes: &[u8]) -> io::Result<()>;
    /// Sets the kernel's host name.
    fn set_hostname(&self, name: &str) -> io::Result<()>;
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
}

fn hardware_random() -> io::Result<[u8; 32]> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut device: File = OpenOptions::new().read(true).custom_flags(flags).open(HARDWARE_RANDOM)?;
    let mut bytes = [0; 32];
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}
