//! Taking over a VM that a former process started.

use std::path::{Path, absolute};

use tokio::time::timeout;

use super::connect::connect;
use super::probe::Qemu;
use super::process::Process;
use super::record::{self, Record};
use super::tail::{Outputs, Tail};
use super::vm::QemuVm;
use crate::{Result, RunState, VmmError};

/// Takes over the VM of `dir`, or makes sure that there is none.
pub(super) async fn adopt(qemu: &Qemu, dir: &Path) -> Result<QemuVm> {
    let dir = absolute(dir).map_err(VmmError::io("resolve", dir))?;
    let lost = |reason| VmmError::NotAdoptable { dir: dir.clone(), reason };
    let record = Record::read(&dir).map_err(lost)?;
    let Some(process) = record.process() else {
        record::clear(&dir);
        return Err(lost(format!("its process {} is gone", record.pid)));
    };
    match take_over(qemu, &dir, record, &process).await {
        Ok(vm) => Ok(vm),
        Err(error) => {
            process.kill();
            let _ = timeout(qemu.deadlines.kill, process.ended()).await;
            record::clear(&dir);
            Err(lost(format!("its process {} was ended because {error}", process.pid)))
        }
    }
}

async fn take_over(qemu: &Qemu, dir: &Path, record: Record, process: &Process) -> Result<QemuVm> {
    // Its error output was a pipe to the former process.
    let outputs = Outputs { stderr: Tail::closed(), console: Tail::new() };
    let Some(connected) = connect(dir, process, qemu.deadlines.start).await else {
        let ended = process.ended().await;
        return Err(VmmError::Gone(Box::new(outputs.reason(ended).await)));
    };
    let connections = connected.map_err(VmmError::from)?;
    let vm = QemuVm::new(dir, record, process.clone(), connections, outputs, qemu.deadlines)?;
    match vm.query_state().await? {
        RunState::Running => {}
        RunState::Paused => vm.is_paused(),
        found => return Err(VmmError::WrongState { needed: RunState::Running, found }),
    }
    Ok(vm)
}
