//! The kernel of a template, and its modules: those that the agent loads before it can reach a disk, and those for volumes.

mod bzimage;
mod debian;
mod modinfo;
mod module_folder;
mod module_list;

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{Apt, Offer};
use crate::digest::{Key, KeyHasher};
use crate::error::AtPath;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::tree_digest::hash_tree;
use crate::{BuildError, KernelSource, Progress};
use module_folder::{Module, ModuleFolder};
pub(crate) use module_list::ModuleList;

/// In the folder of a kernel part: the kernel.
pub(crate) const VMLINUZ: &str = "vmlinuz";
/// In the folder of a kernel part: its release, as `uname -r` says it.
pub(crate) const RELEASE: &str = "release";
/// In the folder of a kernel part: what the agent loads when it is asked for the first volume, as [`ModuleList`] keeps it.
pub(crate) const VOLUMES: &str = "volumes";

/// Changes when the way the kernel part is made changes.
const VERSION: &str = "kernel 3";
/// Without these no sandbox runs.
const REQUIRED: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_net", "overlay"];
/// What makes a sandbox better where the kernel has it: entropy, memory given back, fresh random numbers in each fork,
/// a fast checksum for ext4, and lists of sockets.
const OPTIONAL: [&str; 6] = ["virtio_rng", "virtio_balloon", "vmgenid", "crc32c_intel", "inet_diag", "tcp_diag"];
/// Volumes. More than all the others together, and no sandbox without a volume needs them.
const FOR_VOLUMES: [&str; 2] = ["nfs", "nfsv3"];
/// Needed, but built into many kernels without being listed as such.
const FILESYSTEM: &str = "ext4";

/// A source of a kernel whose content is known by its key, though nothing may have been fetched yet.
pub(crate) enum Resolved<'a> {
    Debian { apt: Apt, packages: Vec<String>, offers: Vec<Offer> },
    Files { vmlinuz: &'a Path, modules: &'a Path },
}

/// Finds out what the kernel is made of.
pub(crate) fn resolve<'a>(
    source: &'a KernelSource,
    store: &Store,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<(Resolved<'a>, Key), BuildError> {
    let mut hasher = KeyHasher::new(VERSION);
    let resolved = match source {
        KernelSource::Debian { flavour } => {
            progress.step("kernel: asking apt for the package");
            debian::resolve(*flavour, store, scratch, &mut hasher, progress)?
        }
        KernelSource::Files { vmlinuz, modules } => {
            progress.step("kernel: reading the files");
            hasher.field(b"files");
            hasher.file(vmlinuz, progress)?;
            hasher.field(modules.file_name().unwrap_or_default().as_encoded_bytes());
            hash_tree(modules, &mut hasher, progress)?;
            Resolved::Files { vmlinuz, modules }
        }
    };
    Ok((resolved, hasher.finish()))
}

/// Fetches the kernel and puts it with its modules into a new folder of the scratch folder.
pub(crate) fn stage(
    resolved: &Resolved<'_>,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<PathBuf, BuildError> {
    let work = scratch.folder("kernel-work")?;
    let (vmlinuz, modules) = match resolved {
        Resolved::Debian { apt, packages, offers } => {
            progress.step("kernel: downloading the package");
            progress.advance(0, Some(offers.iter().map(Offer::size).sum()));
            debian::fetch(apt, packages, &work, progress)?
        }
        Resolved::Files { vmlinuz, modules } => (vmlinuz.to_path_buf(), modules.to_path_buf()),
    };
    progress.step("kernel: collecting modules");
    let staged = scratch.folder("kernel")?;
    let target = staged.join(VMLINUZ);
    fs::copy(&vmlinuz, &target).at(&vmlinuz)?;
    let release = release(&target, &modules)?;
    collect(&modules, &release, &staged, &work, progress)?;
    let path = staged.join(RELEASE);
    fs::write(&path, &release).at(&path)?;
    Ok(staged)
}

/// What the kernel itself says, or else the name of its module folder.
fn release(vmlinuz: &Path, modules: &Path) -> Result<String, BuildError> {
    if let Some(release) = bzimage::release(vmlinuz)? {
        return Ok(release);
    }
    let name = modules.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| BuildError::Kernel {
        path: modules.to_owned(),
        reason: "its last part is not a kernel's release; give lib/modules/RELEASE".to_owned(),
    })
}

fn collect(
    modules: &Path,
    release: &str,
    staged: &Path,
    work: &Path,
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    let folder = ModuleFolder::open(modules, work)?;
    if let Some(module) = REQUIRED.iter().find(|module| !folder.has(module)) {
        return Err(BuildError::ModuleMissing { module: (*module).to_owned(), release: release.to_owned() });
    }
    let wanted: Vec<&str> = REQUIRED.into_iter().chain(OPTIONAL).chain([FILESYSTEM]).collect();
    let for_boot = folder.closure(&wanted, release, progress)?;
    module_list::write(&for_boot, staged)?;
    // A kernel without a client for them has no volumes.
    let mut for_volumes = folder.closure(&FOR_VOLUMES, release, progress)?;
    for_volumes.retain(|module: &Module| !for_boot.contains(module));
    let volumes = staged.join(VOLUMES);
    fs::create_dir(&volumes).at(&volumes)?;
    module_list::write(&for_volumes, &volumes)
}
