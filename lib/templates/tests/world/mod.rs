//! A small world to build templates in: a root filesystem, a kernel with fake modules, an agent, a store.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "part of the tests, where a failure is a panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dormouse_guest_mem::Bytes;
use dormouse_templates::{Artifacts, BuildError, KernelSource, Progress, Recipe, RootfsSource, build};

pub(crate) struct World(tempfile::TempDir);

impl World {
    pub(crate) fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        world.make_rootfs();
        world.make_kernel();
        fs::write(world.agent(), "the agent").unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }
    pub(crate) fn modules(&self) -> PathBuf {
        self.path("6.9-test")
    }
    pub(crate) fn agent(&self) -> PathBuf {
        self.path("agent")
    }
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    pub(crate) fn recipe(&self, rootfs: RootfsSource) -> Recipe {
        let kernel = KernelSource::Files { vmlinuz: self.path("vmlinuz"), modules: self.modules() };
        Recipe { rootfs, kernel, disk: Bytes(1 << 30) }
    }
    pub(crate) fn directory_recipe(&self) -> Recipe {
        self.recipe(RootfsSource::Directory(self.rootfs()))
    }
    pub(crate) fn build(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Artifacts, BuildError> {
        build(recipe, &self.agent(), &self.store(), &self.scratch(), progress)
    }

    /// What is in the scratch folder besides its lock.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.scratch()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect()
    }

    /// Processes that still work in the scratch folder.
    pub(crate) fn processes_in_scratch(&self) -> Vec<PathBuf> {
        let links = fs::read_dir("/proc").unwrap().filter_map(|e| fs::read_link(e.unwrap().path().join("cwd")).ok());
        links.filter(|cwd| cwd.starts_with(self.scratch())).collect()
    }

    fn make_rootfs(&self) {
        let root = self.rootfs();
        for folder in ["usr/bin", "etc/sudoers.d", "etc/ssh", "dev"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/machine-id"), "0123\n").unwrap();
        fs::write(root.join("etc/ssh/ssh_host_key"), "secret").unwrap();
        let tool = root.join("usr/bin/tool");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        chown(&tool, Some(42), Some(43)).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
        rustix::fs::setxattr(&tool, "user.colour", b"blue", rustix::fs::XattrFlags::empty()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(1, 5);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("dev/zero"),
            rustix::fs::FileType::CharacterDevice,
            mode,
            device,
        )
        .unwrap();
    }

    fn make_kernel(&self) {
        fs::write(self.path("vmlinuz"), "not a bzImage").unwrap();
        let folder = self.modules().join("kernel");
        fs::create_dir_all(&folder).unwrap();
        for (name, depends) in [
            ("virtio_pci", ""),
            ("virtio_blk", ""),
            ("virtio_net", "failover"),
            ("failover", ""),
            ("nfsv3", "nfs"),
            ("nfs", "sunrpc,failover"),
            ("sunrpc", ""),
        ] {
            let module = fake_module(&format!("depends={depends}\0vermagic=6.9-test SMP\0"));
            fs::write(folder.join(format!("{name}.ko")), module).unwrap();
        }
        fs::write(self.modules().join("modules.builtin"), "kernel/fs/overlayfs/overlay.ko\nkernel/fs/ext4/ext4.ko\n")
            .unwrap();
    }
}

/// The smallest ELF64 file with a section `.modinfo`.
fn fake_module(modinfo: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0";
    let info_at = 64 + names.len();
    let table = info_at + modinfo.len();
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    for (at, value) in [(0x3a, 64_u16), (0x3c, 2), (0x3e, 0)] {
        elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    elf.extend(names);
    elf.extend(modinfo.as_bytes());
    for (name, start, size) in [(0_u32, 64, names.len()), (1, info_at, modinfo.len())] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
        elf.extend(header);
    }
    elf
}

/// Remembers the steps, and cancels from the one that contains a word on.
#[derive(Default)]
pub(crate) struct Recorder {
    steps: Mutex<Vec<String>>,
    cancel_at: Option<&'static str>,
    cancelled: AtomicBool,
}

impl Recorder {
    pub(crate) fn cancelling_at(step: &'static str) -> Self {
        Self { cancel_at: Some(step), ..Self::default() }
    }
    pub(crate) fn unchanged(&self) -> Vec<String> {
        let steps = self.steps.lock().unwrap();
        steps.iter().filter_map(|step| Some(step.strip_suffix(": unchanged")?.to_owned())).collect()
    }
}

impl Progress for Recorder {
    fn step(&self, text: &str) {
        self.steps.lock().unwrap().push(text.to_owned());
        if self.cancel_at.is_some_and(|word| text.contains(word)) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
    fn advance(&self, _done: u64, _total: Option<u64>) {}
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Writes a plain tar whose member names are taken as they are; a link leads to `target`.
pub(crate) fn write_tar(path: &Path, members: &[(&str, &str)], target: &Path) {
    let mut bytes = Vec::new();
    for (kind, name) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(if *kind == "file" { b"00000000004\0" } else { b"00000000000\0" });
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = if *kind == "file" { b'0' } else { b'2' };
        if *kind == "link" {
            let target = target.to_str().unwrap().as_bytes();
            header[157..157 + target.len()].copy_from_slice(target);
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        if *kind == "file" {
            bytes.extend(b"evil");
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.resize(bytes.len() + 1024, 0);
    fs::write(path, bytes).unwrap();
}

/// Fails the test unless the filesystem is clean.
pub(crate) fn fsck(image: &Path) {
    let output = Command::new("e2fsck").arg("-fn").arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What debugfs(8) answers to a request, its complaints included.
pub(crate) fn debugfs(image: &Path, request: &str) -> String {
    let output = Command::new("debugfs").args(["-R", request]).arg(image).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: String = complaints.lines().filter(|line| !line.starts_with("debugfs ")).collect();
    String::from_utf8_lossy(&output.stdout).into_owned() + &complaints
}

/// Unpacks a cpio archive with Python's idea of the format, which shares no code with ours.
pub(crate) fn unpack_cpio(archive: &Path, to: &Path) -> PathBuf {
    const PROGRAM: &str = r#"
import os, sys
data, root, at = open(sys.argv[1], 'rb').read(), sys.argv[2], 0
while True:
    assert data[at:at + 6] == b'070701', at
    f = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
    name = data[at + 110:at + 110 + f[11] - 1].decode(); at += (110 + f[11] + 3) // 4 * 4
    body = data[at:at + f[6]]; at += (f[6] + 3) // 4 * 4
    if name == 'TRAILER!!!': break
    path = os.path.join(root, name)
    if f[1] & 0o170000 == 0o040000: os.mkdir(path)
    elif f[1] & 0o170000 == 0o020000: os.mknod(path, f[1], os.makedev(f[9], f[10]))
    else:
        open(path, 'wb').write(body); os.chmod(path, f[1] & 0o7777)
assert at == len(data), 'bytes after the end'
"#;
    fs::create_dir(to).unwrap();
    assert!(Command::new("python3").args(["-c", PROGRAM]).args([archive, to]).status().unwrap().success());
    to.to_owned()
}
