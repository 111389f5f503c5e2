//! Guests that are booted directly: for scenarios that look at what no daemon shows, and for other devices and kernel
//! arguments than sandboxes have.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_templates::{Artifacts, KernelLine, KernelSource, Recipe, Silent, build};
use dormouse_vmm::{Boot, Disk, MacAddr, UserNet, Vm, VmSpec, Vmm};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::lab::{binary, state_dir, vmm};
use crate::{Guest, status_of};

/// What a guest is booted on.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Which of the distribution's kernels.
    pub kernel: KernelLine,
    /// Whether the CPU offers 5-level page tables.
    pub five_level_paging: bool,
    /// Guest RAM.
    pub ram: Bytes,
}

/// A VM without a daemon. It and its folder go away with this.
pub struct Booted {
    /// The VM.
    pub vm: Arc<dyn Vm>,
    dir: TempDir,
}

impl Booted {
    /// Boots a guest and waits for its agent.
    pub async fn new(machine: &Machine) -> Self {
        Self::with(machine, &*vmm().await, "").await
    }

    /// The same with a VMM that may add devices, and with more arguments for the kernel.
    pub async fn with(machine: &Machine, vmm: &dyn Vmm, kernel_args: &str) -> Self {
        let artifacts = artifacts(machine.kernel).await;
        let dir = scratch();
        let overlay = dir.path().join("overlay.ext4");
        std::fs::copy(&artifacts.overlay_disk, &overlay).expect("copy the overlay disk");
        let spec = spec(machine, &artifacts, overlay);
        let boot = Boot {
            kernel: artifacts.kernel,
            initramfs: artifacts.initramfs,
            cmdline: format!(
                "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable mitigations=off \
                 dormouse.ip=10.0.2.15/24 dormouse.gw=10.0.2.2 dormouse.hostname=oracle {kernel_args}"
            ),
        };
        let vm = vmm.boot(dir.path(), &spec, &boot).await.expect("start the VM");
        let booted = Self { vm, dir };
        booted.wait_for_agent().await;
        booted
    }

    /// A way into it.
    #[must_use]
    pub fn guest(&self) -> Guest {
        Guest::at(format!("http://{}", self.vm.agent_addr()), String::new())
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Gets the guest ready for a snapshot, its page cache treated by `cache`, and calls that off: what was flushed,
    /// drained and dropped stays so, and commands can be run again.
    pub async fn prepare_and_abort(&self, cache: &str) {
        let guest = self.guest();
        guest.prepare(cache).await;
        guest.abort_prepare().await;
    }

    async fn wait_for_agent(&self) {
        for _ in 0..240 {
            let answer = status_of(self.vm.agent_addr(), "GET", "/health", "", Duration::from_secs(1)).await;
            if answer.is_ok_and(|status| (200..300).contains(&status)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("the guest did not come up: {}", String::from_utf8_lossy(&self.vm.console_tail(3000).await));
    }
}

impl Drop for Booted {
    /// Also when a scenario failed. Harmless when the VM was ended already.
    fn drop(&mut self) {
        let running = self.dir.path().join("vm.json").exists();
        if let Some(pid) = i32::try_from(self.vm.pid()).ok().and_then(Pid::from_raw).filter(|_| running) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A folder on the file system of the shared state, gone when dropped.
#[must_use]
pub fn scratch() -> TempDir {
    let place = state_dir().with_file_name("scratch");
    std::fs::create_dir_all(&place).expect("make a folder");
    tempfile::tempdir_in(place).expect("make a folder")
}

/// The artifacts of the base template with this kernel; shared with the other scenarios.
async fn artifacts(kernel: KernelLine) -> Artifacts {
    static BUILDING: Mutex<()> = Mutex::new(());
    let recipe = Recipe { kernel: KernelSource::Debian { flavour: kernel }, ..Recipe::base() };
    let built = tokio::task::spawn_blocking(move || {
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        build(&recipe, &binary("dormouse-agent"), &state_dir().join("artifacts"), scratch().path(), &Silent)
    });
    built.await.expect("build the artifacts").expect("build the artifacts")
}

fn spec(machine: &Machine, artifacts: &Artifacts, overlay: PathBuf) -> VmSpec {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("find a port");
    let host_port = listener.local_addr().expect("find a port").port();
    VmSpec {
        vcpus: 1,
        ram: machine.ram,
        five_level_paging: machine.five_level_paging,
        disks: vec![
            Disk { id: "base".into(), file: artifacts.base_disk.clone(), read_only: true },
            Disk { id: "overlay".into(), file: overlay, read_only: false },
        ],
        net: UserNet { host_port, guest_port: 49983, mac: MacAddr([0x52, 0x54, 0, 1, 2, 3]) },
    }
}
