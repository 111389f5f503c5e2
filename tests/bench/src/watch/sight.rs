//! What is seen of a VM while its virtual CPUs stand still.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dormouse_guest_mem::{RamLayout, RamSource};
use dormouse_vmm::{Disk, RamFile, Vm};

use crate::block_hashes::BlockHashes;
use crate::pages::each_non_zero;

/// The RAM of a stopped VM, copied, and what its writable disks held.
pub(crate) struct Sight {
    pub(crate) ram: RamFile,
    /// The RAM that the VM was restored with, if it was.
    pub(crate) before: Option<RamFile>,
    pub(crate) layout: RamLayout,
    /// Blocks of the disks that the guest can write to, as they were at the stop.
    pub(crate) written_disks: BlockHashes,
    /// The disks that do not change.
    pub(crate) fixed_disks: Vec<PathBuf>,
}

impl Sight {
    /// Copies the RAM of `vm`, which is paused, to a file in `folder`, which is gone when the copy is.
    pub(crate) fn take(vm: &dyn Vm, folder: &Path) -> anyhow::Result<Self> {
        let paused = vm.paused_ram()?;
        let ram = copy(&*paused, &folder.join("ram.copy")).context("copy RAM")?;
        let before = paused.restored().map(|restored| restored.file.try_clone()).transpose()?;
        let disks = |read_only| vm.spec().disks.iter().filter(move |disk: &&Disk| disk.read_only == read_only);
        let mut written_disks = BlockHashes::default();
        for disk in disks(false) {
            written_disks.add(&disk.file)?;
        }
        let fixed_disks = disks(true).map(|disk| disk.file.clone()).collect();
        Ok(Self { ram, before, layout: vm.layout().clone(), written_disks, fixed_disks })
    }
}

fn copy(from: &dyn RamSource, path: &Path) -> anyhow::Result<RamFile> {
    let to = File::create_new(path)?;
    to.set_len(from.len())?;
    each_non_zero(from, |page, bytes| to.write_all_at(bytes, page.offset()))?;
    let copy = RamFile::open(path)?;
    std::fs::remove_file(path)?;
    Ok(copy)
}
