//! What QEMU on this machine can do.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Private read-only RAM files (`rom=` of `memory-backend-file`) exist from here on.
const OLDEST: (u32, u32) = (8, 2);
/// Where distributions put it.
const USUAL_PLACES: [&str; 3] =
    ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];
const PROBE_DEADLINE: Duration = Duration::from_secs(10);
const MAX_OUTPUT: u64 = 64 << 10;

/// What to look for, and how patient to be.
#[derive(Clone, Debug, Default)]
pub struct QemuOptions {
    /// The QEMU to use; the usual places are searched when it is not given.
    pub binary: Option<PathBuf>,
    /// A machine type such as `pc-q35-9.2`; the newest one when it is not given.
    pub machine: Option<String>,
    /// How to run guests; KVM if it is usable when not given.
    pub accel: Option<Accel>,
    /// How long QEMU may take for what.
    pub deadlines: Deadlines,
    /// Arguments after our own, for every VM: other devices to measure beside. Nobody checks that such a device's state can be
    /// saved; snapshots need the same arguments again.
    pub extra_args: Vec<String>,
}

/// How long QEMU may take before it counts as hung.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the start of the process until it takes commands.
    pub start: Duration,
    /// To load a device state.
    pub load: Duration,
    /// To save one.
    pub save: Duration,
    /// For any other command; stopping waits for disk requests under way.
    pub command: Duration,
    /// From SIGKILL until the process is gone.
    pub kill: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { start: s(30), load: s(30), save: s(30), command: s(15), kill: s(30) }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation; slow, needs nothing, and its device states move between hosts.
    Tcg,
}

impl Accel {
    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Whether KVM can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmState {
    /// Neither `kvm_intel` nor `kvm_amd` is loaded. A `/dev/kvm` may exist all the same.
    NoModule,
    /// `/dev/kvm` cannot be opened.
    NoAccess {
        /// The reason.
        error: String,
    },
    /// It can.
    Usable,
}

/// Facts about the QEMU that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuFacts {
    /// The program.
    pub binary: PathBuf,
    /// Its version, such as `10.0.2`.
    pub version: String,
    /// The versioned machine type that VMs get.
    pub machine: String,
    /// What runs the guests.
    pub accel: Accel,
    /// Whether KVM can be used.
    pub kvm: KvmState,
    /// Model of the host's CPU.
    pub host_cpu: String,
}

/// Why there is no usable QEMU.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No such program.
    #[error("no QEMU found (looked for {}); install qemu-system-x86", .looked_for.join(", "))]
    NotFound {
        /// Paths that do not exist.
        looked_for: Vec<String>,
    },
    /// Too old.
    #[error("{binary} is version {found}, but 8.2 or newer is needed; install a newer one, such as from backports")]
    TooOld {
        /// The program.
        binary: PathBuf,
        /// Its version.
        found: String,
    },
    /// It cannot be run, or does not say what QEMU says.
    #[error("{binary} cannot be used: {reason}")]
    Unusable {
        /// The program.
        binary: PathBuf,
        /// Why.
        reason: String,
    },
    /// It lacks the machine type.
    #[error("{binary} has no machine type {machine}")]
    NoMachine {
        /// The program.
        binary: PathBuf,
        /// The machine type, or `pc-q35-*`.
        machine: String,
    },
    /// KVM was asked for.
    #[error("KVM was asked for but cannot be used: {0:?}")]
    NoKvm(KvmState),
}

/// The QEMU backend. Cheap to clone; asks QEMU about itself only once, in [`probe`](Self::probe).
#[derive(Clone, Debug)]
pub struct Qemu {
    pub(super) facts: QemuFacts,
    pub(super) deadlines: Deadlines,
    pub(super) extra_args: Vec<String>,
}

impl Qemu {
    /// Finds QEMU and what it can do.
    ///
    /// # Errors
    /// [`ProbeError`] with what to do about it.
    pub async fn probe(options: QemuOptions) -> Result<Self, ProbeError> {
        let binary = find(options.binary)?;
        let version = version(&ask(&binary, &["--version"]).await?).ok_or_else(|| ProbeError::Unusable {
            binary: binary.clone(),
            reason: "it does not tell its version as QEMU does".into(),
        })?;
        if numbers(&version) < vec![OLDEST.0, OLDEST.1] {
            return Err(ProbeError::TooOld { binary, found: version });
        }
        let machines = ask(&binary, &["-M", "help"]).await?;
        let machine = choose_machine(&machines, options.machine.as_deref())
            .map_err(|machine| ProbeError::NoMachine { binary: binary.clone(), machine })?;
        let kvm = kvm_state();
        let accel = options.accel.unwrap_or(if kvm == KvmState::Usable { Accel::Kvm } else { Accel::Tcg });
        if accel == Accel::Kvm && kvm != KvmState::Usable {
            return Err(ProbeError::NoKvm(kvm));
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let facts = QemuFacts { binary, version, machine, accel, kvm, host_cpu: cpu_model(&cpuinfo) };
        Ok(Self { facts, deadlines: options.deadlines, extra_args: options.extra_args })
    }

    /// What was found.
    #[must_use]
    pub fn facts(&self) -> &QemuFacts {
        &self.facts
    }
}

fn find(given: Option<PathBuf>) -> Result<PathBuf, ProbeError> {
    let places = given.map_or_else(|| USUAL_PLACES.map(PathBuf::from).to_vec(), |b| vec![b]);
    let found = places.iter().find(|p| p.is_file()).cloned();
    found.ok_or_else(|| ProbeError::NotFound { looked_for: places.iter().map(|p| p.display().to_string()).collect() })
}

/// What `binary` prints, up to [`MAX_OUTPUT`].
async fn ask(binary: &Path, args: &[&str]) -> Result<String, ProbeError> {
    let unusable = |reason: String| ProbeError::Unusable { binary: binary.to_owned(), reason };
    let mut command = Command::new(binary);
    // As the VMs are started: nothing of the daemon's environment is for QEMU.
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| unusable(e.to_string()))?;
    let mut output = Vec::new();
    let reading = async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
        }
        child.wait().await
    };
    let status = timeout(PROBE_DEADLINE, reading).await;
    let status = status.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|e| unusable(e.to_string()))?;
    if !status.success() {
        return Err(unusable(format!("`{}` ended with {status}", args.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// From `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn version(text: &str) -> Option<String> {
    let word = text.lines().next()?.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    (numbers(word).len() >= 2).then(|| word.to_owned())
}

fn numbers(dotted: &str) -> Vec<u32> {
    dotted.split('.').map_while(|n| n.parse().ok()).collect()
}

/// From `-M help`, which has one machine type per line. `Err` names the one that is missing.
fn choose_machine(help: &str, wanted: Option<&str>) -> Result<String, String> {
    let versions = help.lines().filter_map(|l| l.split_whitespace().next()?.strip_prefix("pc-q35-"));
    let newest =
        versions.filter(|v| wanted.is_none_or(|w| w.strip_prefix("pc-q35-") == Some(v))).max_by_key(|v| numbers(v));
    newest.map(|v| format!("pc-q35-{v}")).ok_or_else(|| wanted.unwrap_or("pc-q35-*").to_owned())
}

/// `/dev/kvm` alone proves nothing: it is also there with a module that only runs paravirtual guests.
fn kvm_state() -> KvmState {
    if !["/sys/module/kvm_intel", "/sys/module/kvm_amd"].iter().any(|m| Path::new(m).exists()) {
        return KvmState::NoModule;
    }
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => KvmState::Usable,
        Err(e) => KvmState::NoAccess { error: e.to_string() },
    }
}

/// Vendor, family, model and stepping of the first CPU of `/proc/cpuinfo`.
fn cpu_model(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|l| l.split_once(':'));
        fields.find(|(n, _)| n.trim() == name).map_or("?", |(_, v)| v.trim())
    };
    ["vendor_id", "cpu family", "model", "stepping"].map(value).join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_distributions_print() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright (c) 2003-2025\n";
        assert_eq!(version(debian).as_deref(), Some("10.0.2"));
        assert_eq!(version("QEMU emulator version 9.1\n").as_deref(), Some("9.1"));
        assert_eq!(version("BusyBox v1.36\n"), None);
        assert_eq!(version("QEMU emulator version ten\n"), None);
    }

    #[test]
    fn the_newest_machine_is_chosen_by_number_not_by_spelling() {
        let help = "Supported machines are:\npc-q35-9.2   Standard\npc-q35-2.12  Standard (deprecated)\n\
                    q35          Standard (alias of pc-q35-10.0)\npc-q35-10.0  Standard\n";
        assert_eq!(choose_machine(help, None).as_deref(), Ok("pc-q35-10.0"));
        assert_eq!(choose_machine(help, Some("pc-q35-9.2")).as_deref(), Ok("pc-q35-9.2"));
        assert_eq!(choose_machine(help, Some("pc-q35-11.0")), Err("pc-q35-11.0".to_owned()));
        assert_eq!(choose_machine("", None), Err("pc-q35-*".to_owned()));
    }

    #[tokio::test]
    async fn a_machine_without_qemu_is_told_what_to_install() {
        let options = QemuOptions { binary: Some("/nonexistent/qemu".into()), ..QemuOptions::default() };
        let error = Qemu::probe(options).await.unwrap_err().to_string();
        assert_eq!(error, "no QEMU found (looked for /nonexistent/qemu); install qemu-system-x86");
    }

    #[tokio::test]
    async fn a_qemu_that_is_too_old_is_refused_by_its_version() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("qemu");
        fs::write(&old, "#!/bin/sh\necho QEMU emulator version 7.2.19\n").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
        let options = QemuOptions { binary: Some(old), ..QemuOptions::default() };
        let error = Qemu::probe(options).await.unwrap_err();
        assert!(matches!(&error, ProbeError::TooOld { found, .. } if found == "7.2.19"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_no_qemu_is_refused() {
        let options = QemuOptions { binary: Some("/bin/echo".into()), ..QemuOptions::default() };
        assert!(matches!(Qemu::probe(options).await, Err(ProbeError::Unusable { .. })));
    }
}
