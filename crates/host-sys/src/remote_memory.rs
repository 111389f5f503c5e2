//! Reading another process's memory.

use std::io;
use std::ops::Range;

use rustix::process::Pid;

/// `UIO_MAXIOV`: more places are read by more calls.
const AT_ONCE: usize = 1024;

/// Fills `into` with the memory of process `pid` at `places`, one after the other. Their lengths must add up to that of `into`.
///
/// `pid` may have been given to another process; the caller must know that it was not, and be allowed to trace the process.
/// Pages that the kernel has to read from a file or from swap are read.
///
/// # Errors
/// `InvalidInput` when the lengths differ, `ESRCH` when there is no such process, `EPERM`, and `EFAULT` where it has no memory;
/// what is in `into` is then unspecified.
pub fn read_memory(pid: Pid, places: &[Range<u64>], mut into: &mut [u8]) -> io::Result<()> {
    let total = places.iter().try_fold(0u64, |sum, p| sum.checked_add(p.end.checked_sub(p.start)?));
    if total != Some(into.len() as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut places = places.iter().cloned();
    let mut current = Vec::with_capacity(AT_ONCE.min(places.len()));
    while !into.is_empty() {
        current.extend(places.by_ref().take(AT_ONCE - current.len()));
        let wanted: u64 = current.iter().map(|p| p.end - p.start).sum();
        let (now, _) = into.split_at_mut(usize::try_from(wanted).unwrap_or(usize::MAX).min(into.len()));
        let read = read_some(pid, &current, now)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        skip(&mut current, read);
        into = into.split_at_mut(read).1;
    }
    Ok(())
}

/// One system call: as many bytes as the kernel gives.
fn read_some(pid: Pid, places: &[Range<u64>], into: &mut [u8]) -> io::Result<usize> {
    let remote: Vec<libc::iovec> = places.iter().map(remote_iovec).collect();
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: `local` describes memory that is borrowed exclusively, and the kernel writes nowhere else in this process. `remote`
    // holds addresses of the other process, which the kernel checks; both arrays live until the call returns.
    let read = unsafe {
        libc::process_vm_readv(
            pid.as_raw_nonzero().get(),
            &raw const local,
            1,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

fn remote_iovec(place: &Range<u64>) -> libc::iovec {
    let len = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    let address = usize::try_from(place.start).unwrap_or(usize::MAX);
    libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: len }
}

/// Takes `read` bytes off the front of `places`.
fn skip(places: &mut Vec<Range<u64>>, read: usize) {
    let mut left = read as u64;
    places.retain_mut(|place| {
        let some = left.min(place.end - place.start);
        left -= some;
        place.start += some;
        place.start < place.end
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bytes: &[u8]) -> Range<u64> {
        let start = bytes.as_ptr() as u64;
        start..start + bytes.len() as u64
    }

    fn myself() -> Pid {
        rustix::process::getpid()
    }

    #[test]
    fn many_places_of_many_lengths_come_one_after_the_other() {
        let memory: Vec<u8> = (0..4_000_000u32).map(|n| (n * 31 >> 3) as u8).collect();
        let lens = (0..5000usize).map(|n| 1 + n * 7919 % 600);
        let parts = lens.scan(memory.as_slice(), |rest, len| {
            let (part, after) = rest.split_at(len);
            *rest = &after[len % 13..];
            Some(part)
        });
        let parts: Vec<&[u8]> = parts.collect();
        let places: Vec<_> = parts.iter().map(|p| place(p)).collect();
        let expected = parts.concat();
        let mut got = vec![0; expected.len()];
        read_memory(myself(), &places, &mut got).unwrap();
        assert!(got == expected);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_also_behind_memory_that_is() {
        let memory = [1u8; 100];
        let mut got = [0; 164];
        let nowhere = 0x10..0x50;
        assert!(read_memory(myself(), &[place(&memory), nowhere.clone()], &mut got).is_err());
        assert!(read_memory(myself(), &[nowhere], &mut got[..64]).is_err());
        assert!(read_memory(Pid::from_raw(i32::MAX).unwrap(), &[place(&memory)], &mut got[..100]).is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let memory = [1u8; 100];
        let mut got = [0; 99];
        let backwards = Range { start: 10, end: 5 };
        assert!(read_memory(myself(), &[place(&memory)], &mut got).is_err());
        assert!(read_memory(myself(), &[backwards], &mut []).is_err());
        assert!(read_memory(myself(), &[], &mut []).is_ok());
    }

    #[test]
    fn what_a_short_read_gave_is_taken_off_the_front() {
        let mut places = vec![0..10, 20..30, 40..50];
        skip(&mut places, 10);
        assert_eq!(places, [20..30, 40..50]);
        skip(&mut places, 4);
        assert_eq!(places, [24..30, 40..50]);
    }
}
