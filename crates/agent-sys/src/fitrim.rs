//! Trimming a mounted file system.

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

/// `struct fstrim_range` (include/uapi/linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
    minlen: u64,
}

struct FiTrim(Range);

// SAFETY: the opcode is FITRIM = _IOWR('X', 121, struct fstrim_range); the pointer is to a live, exclusively owned struct of that
// layout, which the kernel reads and writes; `len` is read back from it.
unsafe impl Ioctl for FiTrim {
    type Output = u64;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Range>(b'X', 121)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, range: *mut c_void) -> rustix::io::Result<u64> {
        // SAFETY: `range` is the pointer that `as_ptr` gave, still valid and initialised.
        Ok(unsafe { (*range.cast::<Range>()).len })
    }
}

/// Tells the device under the file system of `directory` which blocks are unused, and returns how many bytes were told.
///
/// Blocks as long as the device takes. Errors: `EOPNOTSUPP` when file system or device cannot, `EPERM` without privilege.
pub fn trim(directory: impl AsFd) -> io::Result<u64> {
    let request = FiTrim(Range { start: 0, len: u64::MAX, minlen: 0 });
    // SAFETY: `FiTrim` describes FITRIM as documented at its impl.
    Ok(unsafe { rustix::ioctl::ioctl(directory, request) }?)
}
