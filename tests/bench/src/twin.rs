//! Guests that are booted with what other methods need, and do the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_templates::KernelLine;
use dormouse_vm_tests::{Booted, Machine};
use dormouse_vmm::Vm;
use dormouse_vmm::qemu::{Qemu, QemuOptions};

use crate::block_hashes::BlockHashes;
use crate::census::Census;
use crate::figures::{Method, Row};
use crate::workload::Workload;

/// The balloon that takes reports. Nothing depends on its place on the bus.
const BALLOON: &str = "virtio-balloon-pci,free-page-reporting=on,addr=0x1c";
/// Linux reports with a delay of 2 s, and an emulated guest takes long to report everything.
const LOOK: Duration = Duration::from_secs(5);
/// Reporting is done when the guest's memory did not get smaller in so many looks.
const QUIET_LOOKS: u32 = 4;
const MOST_LOOKS: u32 = 40;

/// A guest for one method.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Twin {
    /// Free pages of every order are reported to a balloon, which gives them back to the host.
    Reporting,
    /// The kernel clears what is freed.
    InitOnFree,
}

impl Twin {
    pub(crate) const ALL: [Self; 2] = [Self::Reporting, Self::InitOnFree];

    fn kernel_args(self) -> &'static str {
        match self {
            Self::Reporting => "page_reporting.page_reporting_order=0",
            Self::InitOnFree => "init_on_free=1",
        }
    }

    fn qemu_args(self) -> Vec<String> {
        match self {
            Self::Reporting => vec!["-device".to_owned(), BALLOON.to_owned()],
            Self::InitOnFree => Vec::new(),
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Reporting => Method::Reporting,
            Self::InitOnFree => Method::InitOnFree,
        }
    }

    /// Boots the guest, has it do `workload` and drop its page cache, and counts what a snapshot would then store.
    pub(crate) async fn stores(self, workload: Workload, ram: Bytes) -> anyhow::Result<Row> {
        let qemu = Qemu::probe(QemuOptions { extra_args: self.qemu_args(), ..QemuOptions::default() }).await?;
        let machine = Machine { kernel: KernelLine::Stable, five_level_paging: true, ram };
        let booted = Booted::with(&machine, &qemu, self.kernel_args()).await;
        let guest = booted.guest();
        workload.run(&guest).await?;
        guest.sh("sync; echo 1 > /proc/sys/vm/drop_caches").await;
        if matches!(self, Self::Reporting) {
            wait_until_reported(&*booted.vm).await?;
        }
        booted.vm.pause().await?;
        let vm = Arc::clone(&booted.vm);
        let disks = booted.vm.spec().disks.iter().map(|disk| disk.file.clone()).collect::<Vec<_>>();
        let parts = tokio::task::spawn_blocking(move || count(&*vm, &disks)).await??;
        booted.vm.kill().await?;
        Ok(Row::pages(self.method(), parts))
    }
}

fn count(vm: &dyn Vm, disks: &[PathBuf]) -> anyhow::Result<crate::portion::Portions> {
    let mut blocks = BlockHashes::default();
    disks.iter().try_for_each(|disk: &PathBuf| blocks.add(Path::new(disk)))?;
    Ok(Census::take(&*vm.paused_ram()?, vm.layout(), &[&blocks], None)?.non_zero())
}

/// Waits until the host has got back all that it will get.
async fn wait_until_reported(vm: &dyn Vm) -> anyhow::Result<()> {
    let (mut least, mut quiet) = (u64::MAX, 0);
    for _ in 0..MOST_LOOKS {
        tokio::time::sleep(LOOK).await;
        vm.pause().await?;
        let held = vm.paused_ram()?.populated()?.iter().map(|range| range.end - range.start).sum::<u64>();
        vm.resume().await?;
        quiet = if held < least { 0 } else { quiet + 1 };
        least = least.min(held);
        if quiet == QUIET_LOOKS {
            break;
        }
    }
    Ok(())
}
