//! Following which pages another process writes, while it runs: `userfaultfd(2)` with asynchronous write protection (Linux 6.7,
//! `Documentation/admin-guide/mm/userfaultfd.rst`). The kernel notes a write by itself and lets it happen; what it noted is
//! read from the process's pagemap.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use rustix::process::Pid;

use crate::pagemap_scan;

/// `UFFD_API`, and the type of all its requests (include/uapi/linux/userfaultfd.h).
const API: u64 = 0xaa;
/// Pages that are not there yet are protected too.
const WP_UNPOPULATED: u64 = 1 << 13;
const WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 1 << 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Handshake {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

// SAFETY: UFFDIO_API = _IOWR(0xaa, 0x3f, struct uffdio_api) reads and writes one live, exclusively borrowed struct of that layout.
unsafe impl Ioctl for Handshake {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Self>(0xaa, 0x3f)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

// SAFETY: UFFDIO_REGISTER = _IOWR(0xaa, 0x00, struct uffdio_register) reads and writes one live, exclusively borrowed struct of that
// layout. The addresses in it are of the process that made the descriptor, and with WP_ASYNC nothing there changes but how the
// kernel notes writes.
unsafe impl Ioctl for Register {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Self>(0xaa, 0x00)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// A watch over what a process writes to parts of its memory. It ends when this is dropped, for which the kernel takes some 10 ms
/// per GiB.
///
/// Noted is what goes through the process's page tables: its own writes, and those of system calls that copy to its memory. Not
/// noted is what a device writes to pages that it was given before (`O_DIRECT`): a process that does that must not be watched.
#[derive(Debug)]
pub struct WriteWatch {
    uffd: OwnedFd,
}

impl WriteWatch {
    /// A watch of process `pid`, which `pidfd` is of, over nothing yet. The process's main thread is stopped for a moment, and
    /// goes on as if it had not been.
    ///
    /// `pid` may have been given to another process; the caller must know that it was not. What the process gives may be anything, so
    /// a hostile one can keep its writes unnoted, and nothing else.
    ///
    /// # Errors
    /// `Unsupported` on other CPUs than x86-64, `EINVAL` from kernels before 6.7, `EPERM` without the right to trace the process or
    /// when another traces it, `WouldBlock` and `TimedOut` when its main thread is not soon seen waiting in `poll` or `ppoll`, as event loops do.
    pub fn of(pid: Pid, pidfd: impl AsFd) -> io::Result<Self> {
        let uffd = userfaultfd_of(pid, pidfd)?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&uffd)))?;
        if link.as_os_str() != "anon_inode:[userfaultfd]" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let handshake = Handshake { api: API, features: WP_UNPOPULATED | WP_ASYNC, ioctls: 0 };
        // SAFETY: `Handshake` describes UFFDIO_API as documented at its impl.
        unsafe { rustix::ioctl::ioctl(&uffd, handshake) }?;
        Ok(Self { uffd })
    }

    /// Watches `addresses` of the process too. All of their pages count as written until [`take`](Self::take) is called.
    ///
    /// # Errors
    /// `InvalidInput` for what is not mapped or no whole pages, `EBUSY` if another watches them.
    pub fn add(&self, addresses: Range<u64>) -> io::Result<()> {
        let len = addresses.end.saturating_sub(addresses.start);
        let register = Register { start: addresses.start, len, mode: REGISTER_MODE_WP, ioctls: 0 };
        // SAFETY: `Register` describes UFFDIO_REGISTER as documented at its impl.
        Ok(unsafe { rustix::ioctl::ioctl(&self.uffd, register) }?)
    }

    /// Calls `found` with ascending, page-aligned parts of `addresses`, which are watched, that were written since the last take, and
    /// begins anew for them. What is written at the same time is found now or the next time. Pages of a file that the process has not
    /// copied for itself may count as written when they are read for the first time, or a neighbour is written. `pagemap` is the
    /// process's `/proc/PID/pagemap`.
    ///
    /// # Errors
    /// `EPERM` for addresses that are not watched; what the kernel says.
    pub fn take(&self, pagemap: &File, addresses: Range<u64>, found: &mut dyn FnMut(Range<u64>)) -> io::Result<()> {
        pagemap_scan::take_written(pagemap, addresses, found)
    }
}

#[cfg(target_arch = "x86_64")]
fn userfaultfd_of(pid: Pid, pidfd: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::RawFd;

    use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

    /// Also for users who may not have the kernel's own faults handled; none are, with `WP_ASYNC`.
    const USER_MODE_ONLY: u64 = 1;
    let flags = u64::from(libc::O_CLOEXEC.cast_unsigned()) | USER_MODE_ONLY;
    let pidfd = pidfd.as_fd();
    crate::remote_call::with_stopped(pid, |stopped| {
        let theirs = stopped.call(libc::SYS_userfaultfd, flags)?;
        let number = RawFd::try_from(theirs).map_err(|_| io::ErrorKind::InvalidData)?;
        let ours = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty());
        stopped.call(libc::SYS_close, theirs)?;
        Ok(ours?)
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn userfaultfd_of(_: Pid, _: impl AsFd) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests;
