//! Joining the disks and switching to them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_move};

use super::mounts::EARLY;
use super::{BootError, Doing, OVERLAY};

const BASE_DISK: &str = "/dev/vda";
const OVERLAY_DISK: &str = "/dev/vdb";
/// How long a disk may take to show up after its driver was loaded.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// Where the disks are mounted while they are being joined.
const BASE_AT: &str = "/base";
const DISK_AT: &str = "/disk";
const ROOT_AT: &str = "/root";
/// Where the overlay disk waits in the new root until `/run` is there. The directory is not part of the image: it lies in devtmpfs.
const PARKED: &str = "/dev/.overlay";

/// Mounts base and overlay, joins them, and makes the result the root. The initramfs's files are freed.
pub(super) fn switch() -> Result<(), BootError> {
    wait_for(BASE_DISK)?;
    wait_for(OVERLAY_DISK)?;
    for dir in [BASE_AT, DISK_AT, ROOT_AT] {
        fs::create_dir_all(dir).doing(|| format!("make {dir}"))?;
    }
    mount(BASE_DISK, BASE_AT, "ext4", MountFlags::RDONLY, c"noload")
        .doing(|| format!("mount {BASE_DISK} read-only"))?;
    mount(OVERLAY_DISK, DISK_AT, "ext4", MountFlags::NOATIME, c"").doing(|| format!("mount {OVERLAY_DISK}"))?;
    for dir in ["/disk/upper", "/disk/work"] {
        fs::create_dir_all(dir).doing(|| format!("make {dir}"))?;
    }
    let options = c"lowerdir=/base,upperdir=/disk/upper,workdir=/disk/work";
    mount("overlay", ROOT_AT, "overlay", MountFlags::empty(), options).doing(|| "join base and overlay".into())?;
    carry_over()?;
    free_initramfs();
    rustix::process::chdir(ROOT_AT).doing(|| format!("enter {ROOT_AT}"))?;
    mount_move(".", "/").doing(|| "move the new root".into())?;
    rustix::process::chroot(".").doing(|| "switch root".into())?;
    rustix::process::chdir("/").doing(|| "enter the new root".into())
}

fn wait_for(disk: &str) -> Result<(), BootError> {
    let begin = Instant::now();
    while !Path::new(disk).exists() {
        if begin.elapsed() > DISK_PATIENCE {
            return Err(io::Error::from(io::ErrorKind::NotFound)).doing(|| format!("find the disk {disk}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn carry_over() -> Result<(), BootError> {
    fs::create_dir_all(PARKED).doing(|| format!("make {PARKED}"))?;
    mount_move(DISK_AT, PARKED).doing(|| "move the overlay disk".into())?;
    for (_, at) in EARLY {
        let new = format!("{ROOT_AT}{at}");
        fs::create_dir_all(&new).doing(|| format!("make {new}"))?;
        mount_move(at, &new).doing(|| format!("move {at}"))?;
    }
    Ok(())
}

/// Brings the overlay disk to its place once `/run` is mounted.
pub(super) fn settle() -> Result<(), BootError> {
    fs::create_dir_all(OVERLAY).doing(|| format!("make {OVERLAY}"))?;
    rustix::fs::chmod("/run/dormouse", rustix::fs::Mode::RWXU).doing(|| "close /run/dormouse".into())?;
    mount_move(PARKED, OVERLAY).doing(|| format!("move the overlay disk to {OVERLAY}"))?;
    // The mount point is all that is left of the parking place.
    fs::remove_dir(PARKED).doing(|| format!("remove {PARKED}"))
}

/// The initramfs lives in RAM: its files, this program's too, go. Never crosses into another file system.
fn free_initramfs() {
    if let Ok(root) = fs::symlink_metadata("/") {
        remove_below(Path::new("/"), root.dev());
    }
}

fn remove_below(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.dev() != device {
            continue;
        }
        // What cannot be removed costs some RAM and nothing else.
        if meta.is_dir() {
            remove_below(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}
