//! Anonymous memory made of huge pages where the kernel has them.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Bytes of memory that are this process's alone, zero at first. Nothing is taken from the system until it is written to or
/// [`populate`](Self::populate)d, and all is given back when this is dropped.
///
/// Against a `Vec`: huge pages are asked for, which makes filling it several times cheaper, and it can be populated ahead.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as that of a `Vec<u8>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM` when the system does not promise that much.
    pub fn new(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len });
        }
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory that exists.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let buffer = Self { start, len };
        // SAFETY: the range is the mapping just made, and the advice changes no byte of it. A kernel without huge pages refuses
        // it, and the buffer is as good, only slower to fill.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        Ok(buffer)
    }

    /// Takes the memory for the first `len` bytes from the system now, so that writing to them later is quick.
    ///
    /// # Errors
    /// `ENOMEM`; kernels before 5.14 give `EINVAL`. The buffer can be used as before.
    pub fn populate(&mut self, len: usize) -> io::Result<()> {
        let len = len.min(self.len);
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the range lies within the mapping, which is borrowed exclusively; populating changes no byte of it.
        unsafe { madvise(self.start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) }?;
        Ok(())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the start of a readable mapping of `len` bytes, or dangling with a `len` of 0; anonymous memory is
        // initialised to zero.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, writable, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping was made by `new` with this length, and no reference to it outlives `self`.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use rustix::mm::mmap;

    use super::*;

    /// A private, writable mapping of a new file of `pages` pages that are filled with `byte`.
    pub(crate) fn mapped_file(pages: usize, byte: u8) -> Buffer {
        let len = pages * rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![byte; len]).unwrap();
        // SAFETY: a new mapping of a file that nobody else has open; `Buffer` unmaps it by this address and length.
        let start =
            unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE, &file, 0) };
        Buffer { start: NonNull::new(start.unwrap().cast()).unwrap(), len }
    }

    #[test]
    fn it_is_zero_and_keeps_what_is_written_populated_or_not() {
        let len = (4 << 20) + 77;
        let mut buffer = Buffer::new(len).unwrap();
        buffer.populate(len / 2).unwrap();
        assert!(buffer.len() == len && buffer.iter().all(|b| *b == 0));
        buffer.fill(9);
        buffer.populate(usize::MAX).unwrap();
        assert!(buffer.iter().all(|b| *b == 9), "populating keeps what is there");
    }

    #[test]
    fn an_empty_one_is_possible_and_an_impossible_one_is_an_error() {
        let mut empty = Buffer::new(0).unwrap();
        empty.populate(10).unwrap();
        assert!(empty.is_empty());
        assert!(Buffer::new(usize::MAX / 2).is_err());
    }

    #[test]
    fn memory_is_taken_when_populated_and_given_back_when_dropped() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
        };
        let (len, before) = (256 << 20, resident());
        let mut buffer = Buffer::new(len).unwrap();
        assert!(resident() < before + len / 2);
        buffer.populate(len).unwrap();
        assert!(resident() > before + len / 2);
        drop(buffer);
        assert!(resident() < before + len / 2);
    }
}
