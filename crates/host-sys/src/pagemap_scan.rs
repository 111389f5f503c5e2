//! `ioctl(PAGEMAP_SCAN)` on `/proc/PID/pagemap` (Linux 6.7, `Documentation/admin-guide/mm/pagemap.rst`).

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

/// The page was written since it was last protected (by `userfaultfd(2)`), or never was.
const IS_WRITTEN: u64 = 1 << 1;
/// The page belongs to a file or to shared memory.
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;

/// Protects what is found.
const PROTECT: u64 = 1 << 0;
/// Fails where pages cannot be protected without a handler of faults.
const CHECK_ASYNC: u64 = 1 << 1;

/// Regions that one call may give.
const AT_ONCE: usize = 1024;

/// `struct pm_scan_arg` (include/uapi/linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Arguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

struct Scan<'a> {
    arguments: Arguments,
    regions: &'a mut [Region],
}

// SAFETY: the opcode is PAGEMAP_SCAN = _IOWR('f', 16, struct pm_scan_arg). `as_ptr` gives a live, exclusively owned struct of
// that layout whose `regions` and `regions_len` describe a live, exclusively borrowed array of `struct page_region`; the kernel
// reads the struct, writes `walk_end`, and writes at most `regions_len` elements of the array. It returns how many it wrote.
unsafe impl Ioctl for Scan<'_> {
    type Output = (usize, u64);
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Arguments>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.arguments.size = size_of::<Arguments>() as u64;
        self.arguments.regions = self.regions.as_mut_ptr().expose_provenance() as u64;
        self.arguments.regions_len = self.regions.len() as u64;
        (&raw mut self.arguments).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, arguments: *mut c_void) -> rustix::io::Result<(usize, u64)> {
        // SAFETY: `arguments` is the pointer that `as_ptr` gave, still valid and initialised.
        let walk_end = unsafe { (*arguments.cast::<Arguments>()).walk_end };
        Ok((usize::try_from(count).unwrap_or(0), walk_end))
    }
}

/// Calls `found` with ascending, page-aligned parts of `addresses` whose pages are the process's own, in memory or swapped out.
///
/// Errors: `ENOTTY` from kernels before 6.7, `EFAULT` for addresses that no process can have.
pub(crate) fn own_pages(
    pagemap: impl AsFd,
    addresses: Range<u64>,
    found: &mut dyn FnMut(Range<u64>),
) -> io::Result<()> {
    let own = Arguments {
        category_inverted: IS_FILE,
        category_mask: IS_FILE,
        category_anyof_mask: IS_PRESENT | IS_SWAPPED,
        ..Arguments::default()
    };
    scan(pagemap, addresses, own, found)
}

/// Calls `found` with ascending, page-aligned parts of `addresses` that were written since the last call, and protects them again.
///
/// Errors: `EPERM` for addresses that no `userfaultfd(2)` protects asynchronously; otherwise as [`own_pages`].
pub(crate) fn take_written(
    pagemap: impl AsFd,
    addresses: Range<u64>,
    found: &mut dyn FnMut(Range<u64>),
) -> io::Result<()> {
    let written = Arguments {
        flags: PROTECT | CHECK_ASYNC,
        category_mask: IS_WRITTEN,
        return_mask: IS_WRITTEN,
        ..Arguments::default()
    };
    scan(pagemap, addresses, written, found)
}

fn scan(
    pagemap: impl AsFd,
    addresses: Range<u64>,
    wanted: Arguments,
    found: &mut dyn FnMut(Range<u64>),
) -> io::Result<()> {
    let mut regions = [Region::default(); AT_ONCE];
    let mut start = addresses.start;
    while start < addresses.end {
        let arguments = Arguments { start, end: addresses.end, ..wanted };
        let scan = Scan { arguments, regions: &mut regions };
        // SAFETY: `Scan` describes PAGEMAP_SCAN as documented at its impl.
        let (count, walk_end) = unsafe { rustix::ioctl::ioctl(&pagemap, scan) }?;
        // A scan that fills the kernel's own buffer more than once gives regions beyond what it says in `walk_end` (seen on
        // Linux 6.18): they would be reported twice.
        let mut next = walk_end;
        for region in regions.iter().take(count) {
            found(region.start..region.end);
            next = next.max(region.end);
        }
        if next <= start {
            return Err(io::ErrorKind::InvalidData.into());
        }
        start = next;
    }
    Ok(())
}
