//! One QEMU process as a [`Vm`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, RamLayout};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::{Connections, END_SHOWS};
use super::probe::Deadlines;
use super::process::Process;
use super::ram_clone::CloneRam;
use super::ram_followed::FollowedClone;
use super::ram_memfd::MemfdRam;
use super::record::{self, RamPlace, Record};
use super::tail::Outputs;
use crate::qmp::Qmp;
use crate::{ExitReason, FollowedRam, PausedRam, QmpError, Result, RunState, Vm, VmSpec, VmmError};

/// A VM whose QEMU takes commands.
pub(super) struct QemuVm {
    dir: PathBuf,
    record: Record,
    process: Process,
    qmp: Qmp<UnixStream>,
    outputs: Outputs,
    ram: Ram,
    /// Whether we know it to be paused. Only our own commands change that.
    paused: AtomicBool,
    deadlines: Deadlines,
    console: JoinHandle<()>,
}

/// What paused RAM is read from.
enum Ram {
    Memfd(MemfdRam),
    Private { file: PathBuf },
}

impl QemuVm {
    pub(super) fn new(
        dir: &Path,
        record: Record,
        process: Process,
        connections: Connections,
        outputs: Outputs,
        deadlines: Deadlines,
    ) -> Result<Self> {
        let ram = match &record.ram {
            RamPlace::Memfd => Ram::Memfd(MemfdRam::find(process.pid, record.spec.ram.0)?),
            RamPlace::Private { file } => Ram::Private { file: file.clone() },
        };
        let console = tokio::spawn(Arc::clone(&outputs.console).drain(connections.console));
        let (dir, paused, qmp) = (dir.to_owned(), AtomicBool::new(false), connections.qmp);
        Ok(Self { dir, record, process, qmp, outputs, ram, paused, deadlines, console })
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Notes that QEMU said that it is paused.
    pub(super) fn is_paused(&self) {
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Has QEMU do `command`; tells an end of the process from a trouble with the connection.
    pub(super) async fn command(&self, command: &str, arguments: Value, deadline: Duration) -> Result<Value> {
        match self.qmp.execute(command, arguments, deadline).await {
            Ok(value) => Ok(value),
            Err(QmpError::Deadline { command, after }) => {
                Err(VmmError::Deadline { doing: format!("answer `{command}`"), after })
            }
            Err(error @ QmpError::Refused { .. }) => Err(error.into()),
            Err(error) => match timeout(END_SHOWS, self.exited()).await {
                Ok(reason) => Err(VmmError::Gone(Box::new(reason))),
                Err(_) => Err(error.into()),
            },
        }
    }

    /// See [`Vm::run_state`].
    pub(super) async fn query_state(&self) -> Result<RunState> {
        let reply = self.command("query-status", json!({}), self.deadlines.command).await?;
        Ok(run_state(reply.get("status").and_then(Value::as_str).unwrap_or_default()))
    }

    /// Fails unless QEMU says that it is in `needed`.
    async fn need(&self, needed: RunState) -> Result<()> {
        let found = self.query_state().await?;
        if found == needed { Ok(()) } else { Err(VmmError::WrongState { needed, found }) }
    }

    /// The pages of a restored VM, with those that it wrote to.
    pub(super) fn clone_ram(&self, file: &Path) -> Result<CloneRam> {
        CloneRam::read(&self.process, file, self.record.spec.ram.0)
    }
}

impl Drop for QemuVm {
    fn drop(&mut self) {
        self.console.abort();
    }
}

/// From QEMU's `RunState` (`qapi/run-state.json`).
fn run_state(status: &str) -> RunState {
    match status {
        "running" => RunState::Running,
        // After `io-error` (a full disk on the host) the guest goes on, and tries the request again, with `cont`.
        "paused" | "io-error" => RunState::Paused,
        "prelaunch" | "inmigrate" => RunState::Starting,
        _ => RunState::Failed,
    }
}

#[async_trait]
impl Vm for QemuVm {
    fn pid(&self) -> u32 {
        self.process.pid
    }

    fn spec(&self) -> &VmSpec {
        &self.record.spec
    }

    fn agent_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.record.spec.net.host_port).into()
    }

    fn layout(&self) -> &RamLayout {
        &self.record.layout
    }

    async fn run_state(&self) -> Result<RunState> {
        self.query_state().await
    }

    async fn pause(&self) -> Result<()> {
        self.command("stop", json!({}), self.deadlines.command).await?;
        self.need(RunState::Paused).await?;
        self.is_paused();
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.paused.store(false, Ordering::SeqCst);
        self.command("cont", json!({}), self.deadlines.command).await.map(drop)
    }

    async fn save_device_state(&self, file_in_dir: &str) -> Result<PathBuf> {
        let mut parts = Path::new(file_in_dir).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(VmmError::BadSpec { reason: format!("{file_in_dir:?} is not a plain file name") });
        }
        self.need(RunState::Paused).await?;
        // `live` would be for a migration that follows: it takes the disks away from the guest.
        let arguments = json!({"filename": file_in_dir, "live": false});
        self.command("xen-save-devices-state", arguments, self.deadlines.save).await?;
        Ok(self.dir.join(file_in_dir))
    }

    fn paused_ram(&self) -> Result<Box<dyn PausedRam>> {
        if !self.paused.load(Ordering::SeqCst) {
            return Err(VmmError::WrongState { needed: RunState::Paused, found: RunState::Running });
        }
        Ok(match &self.ram {
            Ram::Memfd(ram) => Box::new(ram.clone()),
            Ram::Private { file } => Box::new(self.clone_ram(file)?),
        })
    }

    fn follow_ram(&self) -> Result<Box<dyn FollowedRam>> {
        match &self.ram {
            // Shared memory: only templates are booted, and they are never let go on.
            Ram::Memfd(_) => Err(VmmError::Ram { reason: "the RAM of a booted VM cannot be followed".into() }),
            Ram::Private { file } => Ok(Box::new(FollowedClone::begin(&self.process, file, self.record.spec.ram.0)?)),
        }
    }

    fn ram_written(&self) -> Result<Bytes> {
        match &self.ram {
            Ram::Memfd(ram) => ram.allocated(),
            Ram::Private { file } => Ok(self.clone_ram(file)?.written().bytes()),
        }
    }

    async fn console_tail(&self, bytes: usize) -> Vec<u8> {
        self.outputs.console.last(bytes)
    }

    async fn kill(&self) -> Result<()> {
        self.process.kill();
        let after = self.deadlines.kill;
        let late = |_| VmmError::Deadline { doing: "end after SIGKILL".into(), after };
        timeout(after, self.process.ended()).await.map_err(late)?;
        record::clear(&self.dir);
        Ok(())
    }

    async fn exited(&self) -> ExitReason {
        self.outputs.reason(self.process.ended().await).await
    }
}
