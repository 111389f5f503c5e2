//! Starting QEMU, for a boot and for a restore.

use std::fs::{self, File};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::process::ChildStderr;
use tokio::time::{sleep, timeout};

use super::command_line::{Start, arguments};
use super::connect::connect;
use super::layout;
use super::probe::Qemu;
use super::process::Process;
use super::record::{self, RamPlace, Record};
use super::tail::{Outputs, Tail};
use super::vm::QemuVm;
use crate::{Boot, ExitReason, Result, RunState, VmSpec, VmmError};

/// What QEMU says when another process listens on the port (`net/slirp.c`).
const PORT_TAKEN: &str = "Could not set up host forwarding rule";
const POLL: Duration = Duration::from_millis(3);

/// Starts a VM with fresh RAM and lets it run.
pub(super) async fn boot(qemu: &Qemu, dir: &Path, spec: &VmSpec, boot: &Boot) -> Result<QemuVm> {
    launch(qemu, dir, spec, &Start::Boot(boot), RamPlace::Memfd).await
}

/// Starts a VM with a private view of `ram` and loads `state` into it.
pub(super) async fn restore(qemu: &Qemu, dir: &Path, spec: &VmSpec, state: &Path, ram: &Path) -> Result<QemuVm> {
    let ram = whole(ram, spec)?;
    let state = absolute(state).map_err(VmmError::io("resolve", state))?;
    File::open(&state).map_err(VmmError::io("open", &state))?;
    let place = RamPlace::Private { file: ram.clone() };
    launch(qemu, dir, spec, &Start::Restore { ram: &ram, state: &state }, place).await
}

/// An absolute path of a RAM file of the right size.
fn whole(ram: &Path, spec: &VmSpec) -> Result<PathBuf> {
    let path = absolute(ram).map_err(VmmError::io("resolve", ram))?;
    let found = fs::metadata(&path).map_err(VmmError::io("examine", &path))?;
    if !found.is_file() || found.len() != spec.ram.0 {
        let reason = format!("{} has {} bytes, not the {} of the VM's RAM", path.display(), found.len(), spec.ram.0);
        return Err(VmmError::BadSpec { reason });
    }
    Ok(path)
}

async fn launch(qemu: &Qemu, dir: &Path, spec: &VmSpec, start: &Start<'_>, ram: RamPlace) -> Result<QemuVm> {
    let layout = layout::q35(spec.ram)?;
    let mut arguments = arguments(&qemu.facts, spec, start)?;
    arguments.extend_from_slice(&qemu.extra_args);
    let dir = absolute(dir).map_err(VmmError::io("resolve", dir))?;
    make_room(&dir)?;
    let (process, stderr) = Process::spawn(&qemu.facts.binary, &arguments, &dir)?;
    let guard = Guard { process: &process, dir: &dir, started: false };
    let record = Record::new(&process, spec, layout, ram)?;
    record.write(&dir)?;
    let result = bring_up(qemu, &dir, record, &process, stderr, start).await;
    guard.end(result.is_ok());
    if result.is_err() {
        let _ = timeout(qemu.deadlines.kill, process.ended()).await;
    }
    result
}

/// Refuses a folder whose VM still runs, and clears it of one that does not.
fn make_room(dir: &Path) -> Result<()> {
    if Record::read(dir).is_ok_and(|r| r.process().is_some()) {
        let reason = format!("a VM already runs in {}", dir.display());
        return Err(VmmError::BadSpec { reason });
    }
    record::clear(dir);
    Ok(())
}

/// Ends the process and clears its folder when the start fails or is given up.
struct Guard<'a> {
    process: &'a Process,
    dir: &'a Path,
    started: bool,
}

impl Guard<'_> {
    fn end(mut self, started: bool) {
        self.started = started;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.started {
            self.process.kill();
            record::clear(self.dir);
        }
    }
}

async fn bring_up(
    qemu: &Qemu,
    dir: &Path,
    record: Record,
    process: &Process,
    stderr: Option<ChildStderr>,
    start: &Start<'_>,
) -> Result<QemuVm> {
    let mut outputs = Outputs { stderr: Tail::new(), console: Tail::new() };
    if let Some(stderr) = stderr {
        tokio::spawn(Arc::clone(&outputs.stderr).drain(stderr));
    }
    let Some(connected) = connect(dir, process, qemu.deadlines.start).await else {
        outputs.console = Tail::closed();
        return Err(not_started(outputs.reason(process.ended().await).await, &record.spec));
    };
    let connections = connected.map_err(VmmError::from)?;
    let vm = QemuVm::new(dir, record, process.clone(), connections, outputs, qemu.deadlines)?;
    match start {
        Start::Boot(_) => drop(vm.command("cont", json!({}), qemu.deadlines.command).await?),
        Start::Restore { state, .. } => load(&vm, state, qemu.deadlines.load).await?,
    }
    Ok(vm)
}

fn not_started(reason: ExitReason, spec: &VmSpec) -> VmmError {
    if reason.vmm_said.contains(PORT_TAKEN) {
        return VmmError::HostPortTaken { port: spec.net.host_port };
    }
    VmmError::Gone(Box::new(reason))
}

/// Loads a device state; QEMU ends by itself if it cannot.
async fn load(vm: &QemuVm, state: &Path, deadline: Duration) -> Result<()> {
    let refused = |error| match error {
        VmmError::Gone(reason) => VmmError::StateRefused { state: state.to_owned(), reason },
        other => other,
    };
    timeout(deadline, incoming(vm, state))
        .await
        .unwrap_or_else(|_| {
            Err(VmmError::Deadline { doing: format!("load the device state {}", state.display()), after: deadline })
        })
        .map_err(refused)?;
    vm.is_paused();
    Ok(())
}

async fn incoming(vm: &QemuVm, state: &Path) -> Result<()> {
    let address = json!({"transport": "file", "filename": state, "offset": 0});
    let arguments = json!({"channels": [{"channel-type": "main", "addr": address}]});
    vm.command("migrate-incoming", arguments, vm.deadlines().command).await?;
    loop {
        match vm.query_state().await? {
            RunState::Paused => return Ok(()),
            RunState::Starting => sleep(POLL).await,
            found => return Err(VmmError::WrongState { needed: RunState::Paused, found }),
        }
    }
}
