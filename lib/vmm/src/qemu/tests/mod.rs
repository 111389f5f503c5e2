//! The backend against real QEMU processes, with guests of a few instructions.

mod adopting;
mod faults;
mod guest;
mod ram_layout;
mod snapshots;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dormouse_guest_mem::{Bytes, RamSource};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::launch;
use super::probe::{Accel, Deadlines, Qemu, QemuOptions};
use super::vm::QemuVm;
use crate::{Boot, Disk, MacAddr, Result, UserNet, Vm, VmSpec};

const RAM: Bytes = Bytes::mib(64);
const SOON: Duration = Duration::from_secs(20);

/// A folder for VMs, and the QEMU of this machine.
struct Bench {
    folder: TempDir,
    qemu: Qemu,
}

impl Bench {
    async fn new() -> Self {
        Self::with(QemuOptions::default()).await
    }

    async fn with(options: QemuOptions) -> Self {
        let qemu = Qemu::probe(QemuOptions { accel: Some(Accel::Tcg), ..options }).await.unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("base"), vec![7; 1 << 20]).unwrap();
        Self { folder, qemu }
    }

    /// With a QEMU that counts as hung after this long.
    async fn impatient(command: Duration) -> Self {
        Self::with(QemuOptions { deadlines: Deadlines { command, ..Deadlines::default() }, ..QemuOptions::default() })
            .await
    }

    /// A new folder for a VM, with a path too long for a socket address.
    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.folder.path().join(format!("{name}{}", "-".repeat(120)));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A spec with an overlay disk in `dir`, the shared base disk, and a free port.
    fn spec(&self, dir: &Path) -> VmSpec {
        let overlay = dir.join("overlay");
        fs::File::create(&overlay).unwrap().set_len(1 << 20).unwrap();
        let disk = |id: &str, file, read_only| Disk { id: id.into(), file, read_only };
        VmSpec {
            vcpus: 2,
            ram: RAM,
            five_level_paging: false,
            disks: vec![disk("base", self.folder.path().join("base"), true), disk("overlay", overlay, false)],
            net: UserNet { host_port: free_port(), guest_port: 49983, mac: MacAddr([0x52, 0x54, 0, 1, 2, 3]) },
        }
    }

    fn program(&self, program: guest::Program) -> Boot {
        let kernel = self.folder.path().join(format!("{program:?}"));
        let initramfs = self.folder.path().join("initramfs");
        fs::write(&kernel, guest::image(program)).unwrap();
        fs::write(&initramfs, "nothing").unwrap();
        Boot { kernel, initramfs, cmdline: "console=ttyS0".into() }
    }

    /// A VM in a new folder that has said what it has to say.
    async fn boot(&self, name: &str, program: guest::Program) -> QemuVm {
        let dir = self.dir(name);
        let vm = launch::boot(&self.qemu, &dir, &self.spec(&dir), &self.program(program)).await.unwrap();
        until("the guest runs", || has_printed(&vm)).await;
        vm
    }

    /// Of a VM that is gone.
    async fn snapshot_of_a_counting_guest(&self) -> Snapshot {
        let vm = self.boot("source", guest::Program::Count).await;
        vm.pause().await.unwrap();
        let snapshot = Snapshot::take(self, &vm, "first").await;
        vm.kill().await.unwrap();
        snapshot
    }

    async fn restore(&self, name: &str, snapshot: &Snapshot) -> Result<QemuVm> {
        let dir = self.dir(name);
        launch::restore(&self.qemu, &dir, &self.spec(&dir), &snapshot.state, &snapshot.ram).await
    }
}

/// A failed test leaves VMs behind.
impl Drop for Bench {
    fn drop(&mut self) {
        for process in processes(|cwd| cwd.starts_with(self.folder.path())) {
            adopting::signal(process.file_name().unwrap().to_str().unwrap().parse().unwrap(), Signal::KILL);
        }
    }
}

/// Device state and RAM of one pause, as files.
struct Snapshot {
    state: PathBuf,
    ram: PathBuf,
}

impl Snapshot {
    /// Of a paused VM. The RAM file is made of the populated ranges alone.
    async fn take(bench: &Bench, vm: &QemuVm, name: &str) -> Self {
        let path = |kind: &str| bench.folder.path().join(format!("{name}.{kind}"));
        let snapshot = Self { state: path("state"), ram: path("ram") };
        fs::rename(vm.save_device_state("state").await.unwrap(), &snapshot.state).unwrap();
        fs::write(&snapshot.ram, populated(vm.paused_ram().unwrap().as_ref())).unwrap();
        snapshot
    }
}

/// All of RAM: what is not populated is zero.
fn populated(ram: &dyn RamSource) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(ram.len()).unwrap()];
    for range in ram.populated().unwrap() {
        let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        ram.read_at(range.start, &mut bytes[from..to]).unwrap();
    }
    bytes
}

/// All of RAM as QEMU itself sees it.
async fn seen_by_qemu(vm: &QemuVm, dir: &Path) -> Vec<u8> {
    let arguments = json!({"val": 0, "size": RAM.0, "filename": "seen"});
    vm.command("pmemsave", arguments, SOON).await.unwrap();
    fs::read(dir.join("seen")).unwrap()
}

async fn has_printed(vm: &QemuVm) -> bool {
    String::from_utf8_lossy(&vm.console_tail(usize::MAX).await).contains(guest::GREETING)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Processes whose working directory is `dir`.
fn processes_in(dir: &Path) -> Vec<PathBuf> {
    processes(|cwd| cwd == dir)
}

fn processes(with_cwd: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    processes.filter(|p| fs::read_link(p.join("cwd")).is_ok_and(|cwd| with_cwd(&cwd))).collect()
}

async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < SOON, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
