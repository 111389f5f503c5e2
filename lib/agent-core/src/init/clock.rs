//! Stepping the guest's clock to the host's time.

use std::io;

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec};

/// The clock is left alone when it lags by less: a step costs programs more than so small an error.
const TOLERANCE_NANOS: i128 = 50_000_000;

/// Steps CLOCK_REALTIME forward to `host` if it lags. Never backward: time that programs saw once does not return.
pub(crate) fn step_forward(host: Timestamp) -> io::Result<()> {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    match target(now, host.as_nanosecond()) {
        None => Ok(()),
        Some(spec) => Ok(rustix::time::clock_settime(ClockId::Realtime, spec)?),
    }
}

fn target(now: i128, host: i128) -> Option<Timespec> {
    if host - now < TOLERANCE_NANOS {
        return None;
    }
    let tv_sec = i64::try_from(host.div_euclid(1_000_000_000)).ok()?;
    let tv_nsec = i64::try_from(host.rem_euclid(1_000_000_000)).ok()?;
    Some(Timespec { tv_sec, tv_nsec })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn the_clock_steps_forward_only_and_not_for_trifles() {
        assert_eq!(target(10 * SECOND, 9 * SECOND), None);
        assert_eq!(target(10 * SECOND, 10 * SECOND + 49_000_000), None);
        let spec = target(10 * SECOND, 3600 * SECOND + 5).unwrap();
        assert_eq!((spec.tv_sec, spec.tv_nsec), (3600, 5));
    }
}
