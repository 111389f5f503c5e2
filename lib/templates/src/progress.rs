//! How a long build tells what it does, and learns that it is no longer wanted.

use crate::BuildError;

/// Receives the progress of a build. Called from the building thread, so implementations must not block for long.
pub trait Progress: Send + Sync {
    /// A new step begins, told in a few words for people.
    fn step(&self, text: &str);
    /// The current step has done `done` of `total` (unknown when `None`), in bytes.
    fn advance(&self, done: u64, total: Option<u64>);
    /// Whether the build should stop. Asked several times a second; the build then ends with
    /// [`BuildError::Cancelled`] and leaves no process behind.
    fn cancelled(&self) -> bool;
}

/// Tells nobody and is never cancelled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _text: &str) {}
    fn advance(&self, _done: u64, _total: Option<u64>) {}
    fn cancelled(&self) -> bool {
        false
    }
}

impl dyn Progress + '_ {
    pub(crate) fn go_on(&self) -> Result<(), BuildError> {
        if self.cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
    }
}
