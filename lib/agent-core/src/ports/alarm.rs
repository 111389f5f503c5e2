//! Waiting by a timer of the kernel's.
//!
//! The runtime sorts what is due later into coarse slots first and wakes up to look into one, so that a wait of some hundred
//! milliseconds costs two wakeups. In an idle guest these waits are nearly all that the agent does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer; the runtime's where the kernel gives none.
#[derive(Debug)]
pub(super) struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    pub(super) fn new() -> Self {
        Self(open().ok())
    }

    /// Waits for `pause`, which must not be zero.
    pub(super) async fn after(&self, pause: Duration) {
        let waited = match &self.0 {
            Some(timer) => wait(timer, pause).await,
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if waited.is_err() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound only for a descriptor that closes early; this one is owned, and the new way is unsafe"
)]
fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    AsyncFd::with_interest(timer, Interest::READABLE)
}

async fn wait(timer: &AsyncFd<OwnedFd>, pause: Duration) -> io::Result<()> {
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seconds = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
    let value = Timespec { tv_sec: seconds, tv_nsec: pause.subsec_nanos().into() };
    // This also forgets that an earlier wait, which was given up, is over.
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: once, it_value: value })?;
    loop {
        let mut ready = timer.readable().await?;
        match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
            Ok(over) => return over.map(drop),
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn a_wait_is_as_long_as_asked_also_when_an_earlier_one_was_given_up_and_is_over() {
        let alarm = Alarm::new();
        for given_up in [Duration::from_millis(1), Duration::from_secs(3600)] {
            assert!(futures_util::poll!(std::pin::pin!(alarm.after(given_up))).is_pending());
            tokio::time::sleep(Duration::from_millis(20)).await;
            for wait in [Duration::from_millis(30), Duration::from_millis(70)] {
                let begin = Instant::now();
                alarm.after(wait).await;
                assert!(begin.elapsed() >= wait);
            }
        }
    }
}
