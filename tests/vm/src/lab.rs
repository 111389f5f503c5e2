//! The shared host, its template, and sandboxes on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dormouse_lifecycle::{
    BuildProgress, BuildRequest, Host, Limits, NewSandbox, OnTimeout, Options, SandboxId, SandboxInfo, TemplateName,
};
use dormouse_vmm::Vmm;
use dormouse_vmm::qemu::{Qemu, QemuOptions};
use rustix::process::Pid;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::Guest;

/// The template that every scenario has.
pub const TEMPLATE: &str = "base";

/// Where the scenarios keep what they share.
#[must_use]
pub fn state_dir() -> PathBuf {
    target_dir().join("vm-tests").join("state")
}

/// A binary that `cargo xtask dist` made.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = target_dir().join("dist").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask dist` first", path.display());
    path
}

fn target_dir() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    std::fs::create_dir_all(&dir).expect("make the target folder");
    dir.canonicalize().expect("find the target folder")
}

/// Runs a scenario. All of a test binary share one runtime, since the host's tasks live on it.
pub fn block_on<T>(scenario: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into());
        tracing_subscriber::fmt().with_env_filter(log).with_test_writer().init();
        Runtime::new().expect("start a runtime")
    });
    runtime.block_on(scenario)
}

/// What VMs are started with here.
pub async fn vmm() -> Arc<Qemu> {
    static VMM: OnceCell<Arc<Qemu>> = OnceCell::const_new();
    let probed = VMM.get_or_init(|| async {
        Arc::new(Qemu::probe(QemuOptions::default()).await.expect("find a usable QEMU: run scripts/setup"))
    });
    Arc::clone(probed.await)
}

/// The shared host, with its template built.
pub async fn host() -> &'static Host {
    static HOST: OnceCell<Host> = OnceCell::const_new();
    HOST.get_or_init(|| async { host_with(vmm().await).await }).await
}

/// A host on the shared state folder that starts its VMs with `vmm`, without sandboxes and with its template built.
/// Only one at a time can have the folder.
pub async fn host_with(vmm: Arc<dyn Vmm>) -> Host {
    let options =
        Options { state: state_dir(), vmm, agent: binary("dormouse-agent"), limits: Limits::default(), remote: None };
    let host = Host::open(options).await.expect("open the state folder").0;
    for left_over in host.list() {
        host.kill(&left_over.id).await.expect("remove what an earlier run left");
    }
    let name: TemplateName = TEMPLATE.parse().expect("a name");
    host.build_template(name, BuildRequest::default(), Arc::new(Lines)).await.expect("build the template");
    host
}

/// A request for a sandbox that lives long enough for any scenario.
#[must_use]
pub fn new_sandbox() -> NewSandbox {
    NewSandbox {
        template: TEMPLATE.parse().expect("a name"),
        timeout: Duration::from_secs(3600),
        on_timeout: OnTimeout::Kill,
        metadata: BTreeMap::new(),
        env: BTreeMap::new(),
    }
}

/// A running sandbox on the shared host, and a way into it.
pub async fn sandbox() -> (SandboxInfo, Guest) {
    let host = host().await;
    let info = host.create(new_sandbox()).await.expect("create a sandbox");
    let guest = Guest::of(host, &info.id).await;
    (info, guest)
}

/// The process of a sandbox's VM.
#[must_use]
pub fn vm_pid(state: &Path, id: &SandboxId) -> Pid {
    let record = std::fs::read(state.join("run").join(id.as_str()).join("vm.json")).expect("read the VM's record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("read the VM's record");
    let pid = record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).expect("a process id")
}

/// Progress as lines, so that a build that hangs shows where.
struct Lines;

impl BuildProgress for Lines {
    fn step(&self, text: &str) {
        eprintln!("template: {text}");
    }

    fn advance(&self, _done: u64, _total: Option<u64>) {}

    fn cancelled(&self) -> bool {
        false
    }
}
