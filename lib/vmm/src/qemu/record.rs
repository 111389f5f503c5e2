//! `vm.json` in a VM's folder: what a later process needs to take the VM over.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dormouse_guest_mem::RamLayout;
use serde::{Deserialize, Serialize};

use super::command_line::{CONSOLE_SOCKET, QMP_SOCKET};
use super::process::Process;
use crate::{Result, VmSpec, VmmError};

const FILE: &str = "vm.json";
const VERSION: u32 = 1;
const MAX_LEN: u64 = 1 << 20;

/// What was started. It says nothing about whether it still runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Pids and start times of another boot of the host mean nothing.
    boot_id: String,
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) spec: VmSpec,
    pub(super) layout: RamLayout,
    pub(super) ram: RamPlace,
}

/// Where the RAM is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RamPlace {
    /// In a memfd that the process holds.
    Memfd,
    /// In this file, and where it was written, in the process's own copy of the page.
    Private { file: PathBuf },
}

impl Record {
    pub(super) fn new(process: &Process, spec: &VmSpec, layout: RamLayout, ram: RamPlace) -> Result<Self> {
        let (pid, start_time, spec) = (process.pid, process.start_time, spec.clone());
        Ok(Self { version: VERSION, boot_id: boot_id()?, pid, start_time, spec, layout, ram })
    }

    /// Replaces the record in `dir` as a whole. Not synced: it is worthless after a crash of the host.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let (file, new) = (dir.join(FILE), dir.join("vm.json.new"));
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(VmmError::io("encode", &file))?;
        fs::write(&new, json).and_then(|()| fs::rename(&new, &file)).map_err(VmmError::io("write", file))
    }

    /// The record in `dir`. `Err` says in words why there is none.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let mut json = Vec::new();
        let file = File::open(dir.join(FILE)).map_err(|e| format!("{FILE} cannot be opened: {e}"))?;
        file.take(MAX_LEN).read_to_end(&mut json).map_err(|e| format!("{FILE} cannot be read: {e}"))?;
        let record: Self = serde_json::from_slice(&json).map_err(|e| format!("{FILE} is damaged: {e}"))?;
        if record.version != VERSION {
            return Err(format!("{FILE} has version {}, this dormouse knows only {VERSION}", record.version));
        }
        Ok(record)
    }

    /// The process that was started, if it still runs.
    pub(super) fn process(&self) -> Option<Process> {
        let same_boot = boot_id().is_ok_and(|id| id == self.boot_id);
        same_boot.then(|| Process::find(self.pid, self.start_time)).flatten()
    }
}

/// Removes what a VM that is gone leaves in its folder: its sockets and its record.
pub(super) fn clear(dir: &Path) {
    for name in [FILE, QMP_SOCKET, CONSOLE_SOCKET] {
        let _ = fs::remove_file(dir.join(name));
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).map(|id| id.trim().to_owned()).map_err(VmmError::io("read", path))
}
