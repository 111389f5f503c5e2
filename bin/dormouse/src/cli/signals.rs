//! Being asked to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::command_error::{CommandError, CommandResult};

/// Signals that ask a command to stop.
pub(super) struct Stops {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stops {
    /// Takes the signals over from the system, which would end the process at once.
    pub(super) fn listen() -> CommandResult<Self> {
        let on = |kind| signal(kind).map_err(CommandError::io("listen for signals"));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}

/// Runs a command, or drops it with all that it holds when a signal comes first.
pub(super) async fn or_interrupted<T>(command: impl Future<Output = CommandResult<T>>) -> CommandResult<T> {
    let mut stops = Stops::listen()?;
    tokio::select! {
        result = command => result,
        number = stops.next() => Err(CommandError::interrupted(number)),
    }
}
