//! The kernel's own file systems.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_remount};

use super::{BootError, Doing, console};

struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    options: &'static CStr,
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const NO_DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// What the boot itself needs, in the initramfs; carried over into the new root.
pub(super) const EARLY: [(&str, &str); 3] = [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")];

const LATE: [Mount; 5] = [
    Mount {
        kind: "devpts",
        at: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"gid=5,mode=620,ptmxmode=666",
    },
    Mount { kind: "tmpfs", at: "/dev/shm", flags: NO_DEVICES, options: c"mode=1777" },
    Mount { kind: "cgroup2", at: super::CGROUPS, flags: NO_PROGRAMS, options: c"" },
    Mount { kind: "tmpfs", at: "/run", flags: NO_DEVICES, options: c"mode=755" },
    Mount { kind: "tmpfs", at: "/tmp", flags: NO_DEVICES, options: c"mode=1777" },
];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts what the boot needs; from here on messages reach the console.
pub(super) fn early() -> Result<(), BootError> {
    console::enable();
    for (kind, at) in EARLY {
        let flags = if kind == "devtmpfs" { MountFlags::NOSUID } else { NO_PROGRAMS };
        fs::create_dir_all(at).doing(|| format!("make {at}"))?;
        match mount(kind, at, kind, flags, None) {
            // The kernel may have mounted /dev by itself.
            Err(rustix::io::Errno::BUSY) => {}
            result => result.doing(|| format!("mount {kind} on {at}"))?,
        }
    }
    Ok(())
}

/// Mounts the rest, in the new root. `/run` comes before the overlay's place in it is used again.
pub(super) fn late() -> Result<(), BootError> {
    for Mount { kind, at, flags, options } in LATE {
        fs::create_dir_all(at).doing(|| format!("make {at}"))?;
        mount(kind, at, kind, flags, options).doing(|| format!("mount {kind} on {at}"))?;
    }
    // Every process moves once, after its fork; without this each move waits for an RCU grace period. Kernels before 6.0 lack it.
    let _ = mount_remount(super::CGROUPS, NO_PROGRAMS, c"favordynmods");
    for (target, link) in LINKS {
        if !Path::new(link).is_symlink() {
            symlink(target, link).doing(|| format!("link {link}"))?;
        }
    }
    super::rootfs::settle()
}
