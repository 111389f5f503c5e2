//! The terminal in raw mode, for as long as a value lives.

use std::io::{self, Stdin};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Puts standard input's terminal into raw mode and back when dropped, also by a panic.
pub(super) struct RawMode {
    before: Termios,
    terminal: Stdin,
}

impl RawMode {
    /// Switches to raw mode: keys arrive as they are pressed, and none means a signal.
    pub(super) fn enter() -> io::Result<Self> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { before, terminal })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
