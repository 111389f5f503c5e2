//! Connecting to QEMU's sockets in the VM's folder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::command_line::{CONSOLE_SOCKET, QMP_SOCKET};
use super::process::Process;
use crate::qmp::{Qmp, QmpError};

/// How long after a broken connection the end of the process may take to show.
pub(super) const END_SHOWS: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(5);

/// Connections to a QEMU that takes commands.
pub(super) struct Connections {
    pub(super) qmp: Qmp<UnixStream>,
    pub(super) console: UnixStream,
}

/// Waits until QEMU listens and takes commands. `None` when the process ended instead.
///
/// The console comes first: QEMU drops what the guest prints while nobody is connected.
pub(super) async fn connect(
    dir: &Path,
    process: &Process,
    deadline: Duration,
) -> Option<Result<Connections, QmpError>> {
    let talk = async {
        let console = when_listening(dir, CONSOLE_SOCKET).await;
        let qmp = Qmp::negotiate(when_listening(dir, QMP_SOCKET).await, deadline).await?;
        Ok(Connections { qmp, console })
    };
    let connected = tokio::select! {
        connected = timeout(deadline, talk) => connected.unwrap_or_else(|_| {
            Err(QmpError::Deadline { command: "greeting".into(), after: deadline })
        }),
        _ = process.ended() => return None,
    };
    // A process that is ending closes its sockets first.
    let broken = connected.as_ref().is_err_and(|e| !matches!(e, QmpError::Deadline { .. }));
    if broken && timeout(END_SHOWS, process.ended()).await.is_ok() {
        return None;
    }
    Some(connected)
}

async fn when_listening(dir: &Path, name: &str) -> UnixStream {
    loop {
        if let Ok(stream) = open(dir, name).await {
            return stream;
        }
        sleep(RETRY).await;
    }
}

/// The socket's own path may be longer than the 108 bytes of a socket address; one through an open folder is not.
async fn open(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let folder = File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())).await
}
