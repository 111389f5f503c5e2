//! A snapshot in the making: everything is gathered, and nothing depends on the guest any more but its RAM.

use std::fs;
use std::time::Instant;

use dormouse_guest_mem::{Bytes, RamLayout};
use dormouse_host_sys::Usage;
use dormouse_image::publish::Staging;
use dormouse_vmm::PausedRam;

use super::look_inside::{Found, look_inside};
use super::memory::Memory;
use crate::host::Shared;
use crate::snapshot::parent::ParentImage;
use crate::snapshot::report::{self, Report, Steps};
use crate::snapshot::stored::{self, DEVICE_STATE, Draft};
use crate::snapshot::{EarlyCopy, Stored, device_state};
use crate::{Comparison, Error, Result, Stillness};

/// Name of the uncompressed device state in staging.
pub(super) const RAW_STATE: &str = "device.state.raw";

/// What a snapshot is made of. Dropped, nothing of it is left.
pub(crate) struct Material {
    /// Of the stopped VM, or a copy.
    pub(super) ram: Box<dyn PausedRam>,
    pub(super) layout: RamLayout,
    pub(super) parent: Option<ParentImage>,
    pub(super) found: Found,
    pub(super) comparison: Option<Comparison>,
    pub(super) stop: Stop,
    pub(super) steps: Steps,
    /// Holds the device state as the VMM wrote it, and the overlay disk.
    pub(super) staging: Staging,
    pub(super) draft: Draft,
}

/// For how long virtual CPUs stand still, and what that costs.
pub(super) struct Stop {
    since: Instant,
    before: Usage,
    /// RAM that was copied meanwhile, and what had been copied before and was used.
    pub(super) copied: Bytes,
    pub(super) ahead: Bytes,
    /// What copied the overlay disk, and the VM's RAM. Kept until the VM goes on: to end the watches over them the kernel takes some
    /// 10 ms each (`fsnotify_destroy_group`, fs/notify/group.c; `userfaultfd_release`, fs/userfaultfd.c).
    pub(super) kept: Option<(EarlyCopy, Box<dyn PausedRam>)>,
    /// Known when they run again.
    cost: Option<Stillness>,
}

impl Stop {
    /// To be called just before the VM is told to stop.
    pub(super) fn begins() -> Self {
        let before = Usage::of_process().unwrap_or_default();
        Self { since: Instant::now(), before, copied: Bytes(0), ahead: Bytes(0), kept: None, cost: None }
    }
}

impl Material {
    /// To be called when the guest runs again.
    pub(super) fn vcpus_run_again(&mut self) {
        self.steps.done("go on");
        self.steps.also("stopped in all", self.stop.since.elapsed());
        let used = Usage::of_process().unwrap_or_default().since(&self.stop.before);
        self.stop.cost = Some(report::stillness(self.stop.copied, self.stop.ahead, &used));
        let kept = self.stop.kept.take();
        tokio::task::spawn_blocking(move || drop(kept));
    }

    /// Makes the snapshot. When this returns it is durable.
    pub(crate) fn store(mut self, shared: &Shared) -> Result<Stored> {
        let dir = self.staging.path().to_owned();
        let (survey, introspection) = match self.found {
            Found::Now(look) => look,
            Found::Later(hints) => {
                let look = look_inside(&*self.ram, &self.layout, &hints, &self.draft.id);
                self.steps.done("introspect");
                look
            }
        };
        let memory = Memory {
            ram: &*self.ram,
            layout: &self.layout,
            survey: survey.as_ref(),
            parent: self.parent.as_ref(),
            base: (&self.draft.machine.base_disk, &self.draft.base_disk),
            dir: &dir,
        };
        let image = memory.write(shared, &mut self.steps)?;
        let raw = dir.join(RAW_STATE);
        let packed = device_state::pack(&raw, &dir.join(DEVICE_STATE))
            .and_then(|packed| fs::remove_file(&raw).map(|()| packed))
            .map_err(|e| Error::storage("store the device state in", &dir, &e))?;
        let report = Report {
            introspection,
            comparison: self.comparison,
            stillness: self.stop.cost,
            counts: Some(image.counts),
            new_pack: image.new_pack,
            steps: self.steps.into_reports(),
        };
        let manifest =
            self.draft.finish((&image.stored, image.base_index, image.overlay_content), &packed, &dir, &report)?;
        let written = manifest.write_into(&dir);
        written.map_err(|e| Error::storage("write the manifest in", &dir, &e))?;
        let place = shared.folder.snapshot(&self.draft.id);
        self.staging.publish(&place).map_err(|e| Error::storage("publish", &place, &e))?;
        shared.packs.snapshot_is_there(&self.draft.id, &manifest.memory.packs);
        Stored::open(place.clone(), self.draft.id.clone()).inspect_err(|_| {
            drop(stored::remove_dir(&place));
            shared.packs.snapshot_is_gone(&self.draft.id);
        })
    }
}
