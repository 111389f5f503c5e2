//! QEMU's arguments. What a device state depends on is written in one place, the same for boot and restore.
//!
//! Options with values from outside are given as JSON, where a comma in a path means nothing.

use std::path::Path;

use dormouse_guest_mem::Bytes;
use serde_json::{Value, json};

use super::probe::{Accel, QemuFacts};
use crate::{Boot, Disk, Fingerprint, Result, VmSpec, VmmError};

pub(super) const QMP_SOCKET: &str = "qmp.sock";
pub(super) const CONSOLE_SOCKET: &str = "console.sock";

/// PCI slots on the root bus. Part of the device state: never renumber.
const RNG_SLOT: u8 = 2;
const NET_SLOT: u8 = 3;
const FIRST_DISK_SLOT: u8 = 8;
const MAX_DISKS: usize = 16;

/// Where the guest's RAM comes from, and what runs first.
pub(super) enum Start<'a> {
    Boot(&'a Boot),
    /// RAM from this file; the device state comes later over QMP.
    Restore {
        ram: &'a Path,
        state: &'a Path,
    },
}

/// All arguments after the program's name. The machine waits for `cont`, or for `migrate-incoming`.
pub(super) fn arguments(facts: &QemuFacts, spec: &VmSpec, start: &Start<'_>) -> Result<Vec<String>> {
    check(spec)?;
    let mut args = machine(facts, spec);
    args.extend(confinement());
    args.extend(control());
    args.extend(devices(spec)?);
    args.extend(match start {
        Start::Boot(boot) => kernel(boot, spec.ram)?,
        Start::Restore { ram, .. } => incoming(ram, spec.ram)?,
    });
    Ok(args)
}

/// What must be equal to load a device state.
pub(super) fn fingerprint(facts: &QemuFacts, spec: &VmSpec, extra_args: &[String]) -> Fingerprint {
    let disks = spec
        .disks
        .iter()
        .zip(FIRST_DISK_SLOT..)
        .map(|(d, slot)| format!("blk@{slot:02x}:{}:{}", d.id, if d.read_only { "ro" } else { "rw" }));
    let fixed = [format!("rng@{RNG_SLOT:02x}"), format!("net@{NET_SLOT:02x}"), "vmgenid".into(), "serial".into()];
    let devices = fixed.into_iter().chain(disks).collect::<Vec<_>>().join(" ");
    let mut entries = vec![
        ("backend", "qemu".to_owned()),
        ("version", facts.version.clone()),
        ("machine", facts.machine.clone()),
        ("accel", facts.accel.name().to_owned()),
        ("cpu", cpu(facts, spec)),
        ("vcpus", spec.vcpus.to_string()),
        ("ram", spec.ram.0.to_string()),
        ("devices", devices),
    ];
    if facts.accel == Accel::Kvm {
        entries.push(("host_cpu", facts.host_cpu.clone()));
    }
    if !extra_args.is_empty() {
        entries.push(("extra", extra_args.join(" ")));
    }
    Fingerprint::new(entries)
}

/// An emulated CPU is the same on every host; under KVM the guest sees the host's.
fn cpu(facts: &QemuFacts, spec: &VmSpec) -> String {
    let model = match facts.accel {
        Accel::Kvm => "host,migratable=on",
        Accel::Tcg => "max",
    };
    let la57 = if spec.five_level_paging { "on" } else { "off" };
    match (facts.accel, spec.five_level_paging) {
        (Accel::Kvm, true) => model.to_owned(),
        _ => format!("{model},la57={la57}"),
    }
}

fn machine(facts: &QemuFacts, spec: &VmSpec) -> Vec<String> {
    let accel = match facts.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg,thread=multi",
    };
    // Merging equal pages of different guests (KSM) would let one tenant measure what another has in memory.
    let machine = format!("{},memory-backend=ram,suppress-vmdesc=on,mem-merge=off,dump-guest-core=off", facts.machine);
    let ram = format!("{}M", spec.ram.0 >> 20);
    let cpu = cpu(facts, spec);
    ["-M", &machine, "-accel", accel, "-cpu", &cpu, "-smp", &spec.vcpus.to_string(), "-m", &ram]
        .map(str::to_owned)
        .to_vec()
}

/// Sleep states are off: a guest could otherwise suspend itself into a state from which it cannot be paused.
fn confinement() -> Vec<String> {
    let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    let (s3, s4) = ("ICH9-LPC.disable_s3=1", "ICH9-LPC.disable_s4=1");
    let args = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-sandbox",
        sandbox,
        "-global",
        s3,
        "-global",
        s4,
    ];
    args.map(str::to_owned).to_vec()
}

/// Sockets by relative path: QEMU runs in the VM's folder, whose own path may be too long for a socket address.
fn control() -> Vec<String> {
    let qmp = format!("unix:{QMP_SOCKET},server=on,wait=off");
    let console = format!("socket,id=console,path={CONSOLE_SOCKET},server=on,wait=off");
    ["-S", "-qmp", &qmp, "-chardev", &console, "-serial", "chardev:console"].map(str::to_owned).to_vec()
}

/// The allow-list: saving does not check whether a device can be saved, and these can.
fn devices(spec: &VmSpec) -> Result<Vec<String>> {
    let net = &spec.net;
    let forward = format!("tcp:127.0.0.1:{}-:{}", net.host_port, net.guest_port);
    let mut args = Vec::new();
    let mut add = |option: &str, value: &Value| args.extend([option.to_owned(), value.to_string()]);
    add("-device", &json!({"driver": "virtio-rng-pci", "id": "rng", "addr": slot(RNG_SLOT)}));
    add("-netdev", &json!({"type": "user", "id": "net", "restrict": true, "hostfwd": [{"str": forward}]}));
    let mac = net.mac.to_string();
    let card = json!({"driver": "virtio-net-pci", "id": "nic", "netdev": "net", "mac": mac, "romfile": "",
        "addr": slot(NET_SLOT)});
    add("-device", &card);
    add("-device", &json!({"driver": "vmgenid", "id": "generation", "guid": "auto"}));
    for (disk, number) in spec.disks.iter().zip(FIRST_DISK_SLOT..) {
        add("-blockdev", &image(disk)?);
        let device = json!({"driver": "virtio-blk-pci", "id": format!("disk-{}", disk.id), "serial": disk.id,
            "drive": format!("image-{}", disk.id), "addr": slot(number)});
        add("-device", &device);
    }
    Ok(args)
}

fn slot(number: u8) -> String {
    format!("{number:#x}")
}

/// A writable image is locked, so that no two VMs write to it; a read-only one is nobody's.
fn image(disk: &Disk) -> Result<Value> {
    let file = utf8(&disk.file)?;
    let name = format!("image-{}", disk.id);
    Ok(if disk.read_only {
        json!({"driver": "raw", "node-name": name, "read-only": true,
            "file": {"driver": "file", "filename": file, "read-only": true, "locking": "off"}})
    } else {
        json!({"driver": "raw", "node-name": name, "discard": "unmap", "detect-zeroes": "unmap",
            "file": {"driver": "file", "filename": file, "discard": "unmap", "locking": "on"}})
    })
}

fn kernel(boot: &Boot, ram: Bytes) -> Result<Vec<String>> {
    let memory = json!({"qom-type": "memory-backend-memfd", "id": "ram", "size": ram.0, "share": true});
    let (kernel, initramfs) = (utf8(&boot.kernel)?, utf8(&boot.initramfs)?);
    Ok(["-object", &memory.to_string(), "-kernel", &kernel, "-initrd", &initramfs, "-append", &boot.cmdline]
        .map(str::to_owned)
        .to_vec())
}

/// Opened read-only: with a writable file QEMU would pass on discarded pages as holes in it, private mapping or not.
fn incoming(ram: &Path, size: Bytes) -> Result<Vec<String>> {
    let memory = json!({"qom-type": "memory-backend-file", "id": "ram", "size": size.0, "mem-path": utf8(ram)?,
        "share": false, "readonly": true, "rom": "off"});
    Ok(["-object", &memory.to_string(), "-incoming", "defer", "-global", "migration.send-configuration=off"]
        .map(str::to_owned)
        .to_vec())
}

fn utf8(path: &Path) -> Result<String> {
    let bad = |what| VmmError::BadSpec { reason: format!("the path {} {what}", path.display()) };
    if !path.is_absolute() {
        return Err(bad("is not absolute"));
    }
    path.to_str().map(str::to_owned).ok_or_else(|| bad("is not UTF-8"))
}

fn check(spec: &VmSpec) -> Result<()> {
    let bad = |reason: String| Err(VmmError::BadSpec { reason });
    if spec.vcpus == 0 {
        return bad("a VM needs a virtual CPU".into());
    }
    if spec.net.host_port == 0 || spec.net.guest_port == 0 {
        return bad("port 0 cannot be forwarded".into());
    }
    if spec.disks.len() > MAX_DISKS {
        return bad(format!("{} disks are more than {MAX_DISKS}", spec.disks.len()));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    for (at, disk) in spec.disks.iter().enumerate() {
        if !(1..=20).contains(&disk.id.len()) || !disk.id.chars().all(plain) {
            return bad(format!("the disk id {:?} is not 1 to 20 of a-z, 0-9 and -", disk.id));
        }
        if spec.disks.iter().take(at).any(|d| d.id == disk.id) {
            return bad(format!("two disks have the id {:?}", disk.id));
        }
    }
    Ok(())
}
