//! What this process has used of the machine.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// What all threads of this process together have used since it began, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in the kernel and outside of it.
    pub cpu: Duration,
    /// Page faults, both those that only needed memory and those that waited for a disk.
    pub page_faults: u64,
}

impl Usage {
    /// Until now.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_process() -> io::Result<Self> {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is memory for one `struct rusage`, which the kernel fills.
        let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was zero before, which is a valid value of its numbers, and the call succeeded.
        let usage = unsafe { usage.assume_init() };
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        let time = |at: libc::timeval| Duration::from_secs(count(at.tv_sec)) + Duration::from_micros(count(at.tv_usec));
        Ok(Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            page_faults: count(usage.ru_minflt) + count(usage.ru_majflt),
        })
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            page_faults: self.page_faults.saturating_sub(earlier.page_faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;

    #[test]
    fn memory_that_is_taken_costs_page_faults_and_time() {
        let before = Usage::of_process().unwrap();
        let mut buffer = Buffer::new(64 << 20).unwrap();
        buffer.fill(1);
        let used = Usage::of_process().unwrap().since(&before);
        assert!(used.page_faults >= 32, "{used:?}: a fault for each huge page, or more");
        assert!(used.cpu > Duration::ZERO, "{used:?}");
    }
}
