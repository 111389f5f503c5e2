//! Signals that stop the daemon.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::command_error::{CommandError, CommandResult};

/// Turns `stop` true at the first SIGTERM or SIGINT. A second one ends the process at once: VMs go on all the same.
pub(crate) fn on_signal(stop: watch::Sender<bool>) -> CommandResult<()> {
    let listen = |kind| signal(kind).map_err(CommandError::io("listen for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            asked += 1;
            if asked > 1 {
                std::process::exit(130);
            }
            let _ = writeln!(std::io::stderr(), "dormouse: stopping; running sandboxes go on (again to stop at once)");
            stop.send_replace(true);
        }
    });
    Ok(())
}
