//! How patient the store is with a remote, and how much it does at once.

use std::time::Duration;

/// How patient the store is with a remote, and how much it does at once.
#[derive(Clone, Debug)]
pub struct RemoteLimits {
    /// Longest time without a byte from the remote while something is expected from it.
    pub stall: Duration,
    /// A single attempt may take `stall` and as long as its bytes take at this rate (bytes per second): a body that
    /// trickles is as bad as one that does not come.
    pub slowest: u64,
    /// Patience for one object that somebody waits for.
    pub fetch: RetryPolicy,
    /// Patience for one object that goes up in the background.
    pub upload: RetryPolicy,
    /// Pause before a snapshot whose upload failed is tried again.
    pub again: Duration,
    /// Objects larger than this go up in parts of this size. Taken as 5 MiB if it is less, as S3 demands.
    pub part: u64,
    /// Parts of one object on their way at the same time.
    pub parts_at_once: usize,
    /// Packs on their way at the same time, per direction.
    pub packs_at_once: usize,
}

/// When to try again, and when to give up.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Pause after the first failure. It doubles with every further one.
    pub first: Duration,
    /// Longest pause.
    pub most: Duration,
    /// Bound for all attempts and pauses together. An attempt that is under way then is ended.
    pub total: Duration,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            slowest: 128 << 10,
            fetch: RetryPolicy {
                first: Duration::from_millis(200),
                most: Duration::from_secs(10),
                total: Duration::from_secs(10 * 60),
            },
            upload: RetryPolicy {
                first: Duration::from_secs(1),
                most: Duration::from_secs(120),
                total: Duration::from_secs(2 * 60 * 60),
            },
            again: Duration::from_secs(15 * 60),
            part: 8 << 20,
            parts_at_once: 2,
            packs_at_once: 4,
        }
    }
}

impl RemoteLimits {
    pub(super) fn part(&self) -> u64 {
        self.part.max(5 << 20)
    }

    /// Longest time for one attempt that moves `len` bytes.
    pub(super) fn attempt(&self, len: u64) -> Duration {
        self.stall.saturating_add(Duration::from_secs(len.div_ceil(self.slowest.max(1))))
    }
}

impl RetryPolicy {
    /// Pause after the `failures`-th failure in a row (the first is 1): doubled each time up to the bound, and of that a
    /// half to all, by `chance` from 0 to 1. Clients that failed together so do not come back together.
    pub(super) fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.most).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_never_smaller_than_s3_takes() {
        let of = |part| RemoteLimits { part, ..RemoteLimits::default() }.part();
        assert_eq!([0, 1, 5 << 20, 6 << 20].map(of), [5 << 20, 5 << 20, 5 << 20, 6 << 20]);
    }
}
