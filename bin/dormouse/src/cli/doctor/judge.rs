//! What facts mean. Looks at nothing itself.

use dormouse_guest_mem::Bytes;
use dormouse_vmm::qemu::KvmState;
use serde::Serialize;

use super::facts::{Facts, QemuMissing};

/// Less room than this for snapshots and templates is trouble soon.
const LITTLE_DISK: Bytes = Bytes(8 << 30);
/// Less than this and not even one small guest fits.
const LITTLE_SHM: Bytes = Bytes(1 << 30);

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but could be better.
    Warn,
    /// Needed and not there.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// A command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

fn check(name: &'static str, verdict: Verdict, found: impl Into<String>, mend: &str) -> Check {
    let mend = (verdict != Verdict::Ok && !mend.is_empty()).then(|| mend.to_owned());
    Check { name, verdict, found: found.into(), mend }
}

/// Judges everything, in the order in which one would mend it.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![qemu(facts), kvm(facts)];
    checks.extend(facts.tools.iter().map(|(name, there)| tool(name, *there)));
    checks.extend([agent(facts), shm(facts), disk(facts), reflink(facts), daemon(facts)]);
    checks
}

fn qemu(facts: &Facts) -> Check {
    let install = "scripts/setup";
    match &facts.qemu {
        Ok(found) => check("QEMU", Verdict::Ok, format!("{} ({})", found.version, found.machine), ""),
        Err(QemuMissing::TooOld(version)) => {
            check("QEMU", Verdict::Missing, format!("{version} is too old: 8.2 or newer is needed"), install)
        }
        Err(QemuMissing::Other(reason)) => check("QEMU", Verdict::Missing, reason.clone(), install),
    }
}

/// Whether guests run at full speed. A `/dev/kvm` alone says nothing: it may belong to something else than VMX or SVM.
fn kvm(facts: &Facts) -> Check {
    let slow = "guests are emulated, which is slow";
    match facts.qemu.as_ref().map(|found| (found.uses_kvm, &found.kvm)) {
        Ok((true, _)) => check("KVM", Verdict::Ok, "usable", ""),
        Ok((_, KvmState::NoModule)) => {
            let found = format!("neither kvm_intel nor kvm_amd is loaded; {slow}");
            check("KVM", Verdict::Warn, found, "modprobe kvm_intel || modprobe kvm_amd")
        }
        Ok((_, KvmState::NoAccess { error })) => {
            check("KVM", Verdict::Warn, format!("{error}; {slow}"), "sudo usermod -aG kvm $USER, then log in again")
        }
        Ok((_, KvmState::Usable)) => check("KVM", Verdict::Warn, format!("usable, but not used; {slow}"), ""),
        Err(_) => check("KVM", Verdict::Warn, "not known without QEMU", ""),
    }
}

fn tool(name: &'static str, there: bool) -> Check {
    let package = match name {
        "mke2fs" => "e2fsprogs",
        "unshare" => "util-linux",
        other => other,
    };
    match there {
        true => check(name, Verdict::Ok, "found", ""),
        false => check(name, Verdict::Missing, "not found", &format!("sudo apt-get install {package}")),
    }
}

fn agent(facts: &Facts) -> Check {
    let (path, there) = &facts.agent;
    let found = path.display().to_string();
    match there {
        true => check("agent", Verdict::Ok, found, ""),
        false => check("agent", Verdict::Missing, format!("no {found}"), "cargo xtask agent"),
    }
}

fn shm(facts: &Facts) -> Check {
    let mend = "sudo mount -o remount,size=75% /dev/shm";
    match facts.shm {
        Some(room) if room >= LITTLE_SHM => check("/dev/shm", Verdict::Ok, format!("{room} free"), ""),
        Some(room) => check("/dev/shm", Verdict::Warn, format!("only {room} free"), mend),
        None => check("/dev/shm", Verdict::Warn, "not there", "sudo mount -t tmpfs tmpfs /dev/shm"),
    }
}

fn disk(facts: &Facts) -> Check {
    let at = facts.state.display();
    match facts.disk {
        Some(room) if room >= LITTLE_DISK => check("disk", Verdict::Ok, format!("{room} free for {at}"), ""),
        Some(room) => {
            check("disk", Verdict::Warn, format!("only {room} free for {at}"), "choose another folder with --state DIR")
        }
        None => {
            check("disk", Verdict::Missing, format!("{at} cannot be used"), "choose another folder with --state DIR")
        }
    }
}

fn reflink(facts: &Facts) -> Check {
    let mend = "put the state folder on XFS or btrfs (--state DIR)";
    match facts.reflink {
        Some(true) => check("reflink", Verdict::Ok, "disks of forks share their blocks", ""),
        Some(false) => check("reflink", Verdict::Warn, "this file system has none; disks of forks are copied", mend),
        None => check("reflink", Verdict::Warn, "could not be tried", mend),
    }
}

fn daemon(facts: &Facts) -> Check {
    match facts.daemon {
        true => check("daemon", Verdict::Ok, "answers", ""),
        false => check("daemon", Verdict::Warn, "none answers for this state folder", "dormouse serve"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::QemuFound;
    use super::*;

    fn good() -> Facts {
        let qemu = QemuFound {
            version: "10.0.2".into(),
            machine: "pc-q35-10.0".into(),
            uses_kvm: true,
            kvm: KvmState::Usable,
        };
        Facts {
            qemu: Ok(qemu),
            tools: vec![("mke2fs", true)],
            shm: Some(Bytes(4 << 30)),
            disk: Some(Bytes(90 << 30)),
            reflink: Some(true),
            state: "/state".into(),
            agent: ("/bin/dormouse-agent".into(), true),
            daemon: true,
        }
    }

    fn of(facts: &Facts, name: &str) -> Check {
        judge(facts).into_iter().find(|c| c.name == name).unwrap()
    }

    #[test]
    fn a_good_machine_needs_no_mending() {
        assert!(judge(&good()).iter().all(|c| c.verdict == Verdict::Ok && c.mend.is_none()));
    }

    #[test]
    fn a_device_node_without_a_module_is_no_kvm_but_guests_still_run() {
        let mut facts = good();
        if let Ok(qemu) = &mut facts.qemu {
            (qemu.uses_kvm, qemu.kvm) = (false, KvmState::NoModule);
        }
        let kvm = of(&facts, "KVM");
        assert_eq!(kvm.verdict, Verdict::Warn);
        assert!(kvm.found.contains("kvm_intel") && kvm.mend.unwrap().contains("modprobe"));
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_mends_it() {
        let facts = Facts {
            qemu: Err(QemuMissing::TooOld("7.2.0".into())),
            tools: vec![("mke2fs", false)],
            agent: ("/x".into(), false),
            ..good()
        };
        for (name, mend) in [("QEMU", "setup"), ("mke2fs", "e2fsprogs"), ("agent", "cargo xtask agent")] {
            let check = of(&facts, name);
            assert_eq!(check.verdict, Verdict::Missing, "{name}");
            assert!(check.mend.unwrap().contains(mend), "{name}");
        }
    }

    #[test]
    fn little_room_and_no_daemon_are_warnings() {
        let facts = Facts { shm: Some(Bytes(1)), disk: Some(Bytes(1)), reflink: None, daemon: false, ..good() };
        for name in ["/dev/shm", "disk", "reflink", "daemon"] {
            assert_eq!(of(&facts, name).verdict, Verdict::Warn, "{name}");
        }
    }
}
