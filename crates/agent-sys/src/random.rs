//! The kernel's random number generator (drivers/char/random.c).

use std::fs::OpenOptions;
use std::io;

use rustix::ioctl::{NoArg, Setter, opcode};

/// Most bytes that one call credits. A request of more is refused with `InvalidInput`.
const MAX_ENTROPY: usize = 4096;

/// `struct rand_pool_info` with room for [`MAX_ENTROPY`] bytes (include/uapi/linux/random.h).
#[repr(C)]
struct PoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; MAX_ENTROPY],
}

/// `_IOW('R', 3, int[2])`.
const RNDADDENTROPY: rustix::ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 3);
/// `_IO('R', 7)`.
const RNDRESEEDCRNG: rustix::ioctl::Opcode = opcode::none(b'R', 7);

/// Mixes `bytes` into the pool and credits them as fully random. Needs CAP_SYS_ADMIN.
pub fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    let mut info = Box::new(PoolInfo { entropy_count: 0, buf_size: 0, buf: [0; MAX_ENTROPY] });
    let Some(room) = info.buf.get_mut(..bytes.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "entropy is at most 4096 bytes"));
    };
    room.copy_from_slice(bytes);
    let size = i32::try_from(bytes.len()).map_err(io::Error::other)?;
    info.buf_size = size;
    info.entropy_count = size.saturating_mul(8);
    let device = OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and `buf_size` bytes behind it; both lie within `PoolInfo`.
    unsafe { rustix::ioctl::ioctl(&device, Setter::<RNDADDENTROPY, PoolInfo>::new(*info)) }?;
    Ok(())
}

/// Makes the generator take a new key from the pool at once, so that no output after this call follows from earlier state.
/// Needs CAP_SYS_ADMIN.
pub fn reseed() -> io::Result<()> {
    let device = OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { rustix::ioctl::ioctl(&device, NoArg::<RNDRESEEDCRNG>::new()) }?;
    Ok(())
}
