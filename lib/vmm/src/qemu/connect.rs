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
    tokio::select! {
        connected = timeout(deadline, talk) => Some(connected.unwrap_or_else(|_| {
            Err(QmpError::Deadline { command: "greeting".into(), after: deadline })
        })),
        _ = process.ended() => None,
    }
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
