//! The last bytes of an endless output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::{ExitReason, ProcessEnd};

/// What is kept of each output.
const KEPT: usize = 64 << 10;
/// A pause after every read bounds what a guest that prints for ever costs here, to some MB/s.
const READ: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(2);
/// What of it goes into an error message.
const TOLD_LINES: usize = 20;
const TOLD_BYTES: usize = 2048;
const SETTLE: Duration = Duration::from_millis(500);

/// A bounded end of an output that another task drains.
pub(super) struct Tail {
    kept: Mutex<VecDeque<u8>>,
    ended: watch::Sender<bool>,
}

impl Tail {
    /// Of an output that [`drain`](Self::drain) will read.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), ended: watch::Sender::new(false) })
    }

    /// Of an output that cannot be read.
    pub(super) fn closed() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), ended: watch::Sender::new(true) })
    }

    /// Reads `from` to its end, keeping the last [`KEPT`] bytes.
    pub(super) async fn drain(self: Arc<Self>, mut from: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; READ];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            self.push(chunk.get(..n).unwrap_or_default());
            sleep(PAUSE).await;
        }
        self.ended.send_replace(true);
    }

    /// The last `bytes`, or fewer.
    pub(super) fn last(&self, bytes: usize) -> Vec<u8> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(bytes)).copied().collect()
    }

    fn push(&self, new: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(new);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// The last lines for people, without anything that a terminal would obey.
    fn told(&self) -> String {
        let bytes = self.last(TOLD_BYTES);
        let text = String::from_utf8_lossy(&bytes);
        let printable = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>();
        let lines = printable.trim().lines().collect::<Vec<_>>();
        lines.get(lines.len().saturating_sub(TOLD_LINES)..).unwrap_or_default().join("\n")
    }
}

/// The two outputs of a VM: what QEMU writes to its error output, and what the guest prints.
#[derive(Clone)]
pub(super) struct Outputs {
    pub(super) stderr: Arc<Tail>,
    pub(super) console: Arc<Tail>,
}

impl Outputs {
    /// The reason for an end that has happened, with the last words once they are all read.
    pub(super) async fn reason(&self, end: ProcessEnd) -> ExitReason {
        for tail in [&self.stderr, &self.console] {
            let _ = timeout(SETTLE, tail.ended.subscribe().wait_for(|ended| *ended)).await;
        }
        ExitReason { end, vmm_said: self.stderr.told(), guest_said: self.console.told() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_of_a_long_output_is_kept() {
        let tail = Tail::new();
        let output = (0..100_000u32).map(|n| format!("{n}\n")).collect::<String>();
        Arc::clone(&tail).drain(output.as_bytes()).await;
        assert!(output.len() > 4 * KEPT);
        assert_eq!(tail.last(usize::MAX), &output.as_bytes()[output.len() - KEPT..]);
        assert_eq!(tail.last(6), b"99999\n");
    }

    #[tokio::test]
    async fn terminal_commands_of_the_guest_do_not_reach_people() {
        let tail = Tail::new();
        Arc::clone(&tail).drain(&b"one\r\n\x1b[2Jtwo\x07\xff\n"[..]).await;
        assert_eq!(tail.told(), "one\n[2Jtwo\u{fffd}");
    }
}
