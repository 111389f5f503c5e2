//! A snapshot in the making: everything is gathered, and nothing depends on the guest any more but its RAM.

use std::fs;
use std::time::Duration;

use dormouse_guest_mem::RamLayout;
use dormouse_image::publish::Staging;
use dormouse_introspect::Survey;
use dormouse_vmm::PausedRam;

use super::memory::Memory;
use crate::host::Shared;
use crate::snapshot::parent::ParentImage;
use crate::snapshot::report::{Report, Steps};
use crate::snapshot::stored::{self, DEVICE_STATE, Draft};
use crate::snapshot::{Stored, device_state};
use crate::{Error, Result};

/// Name of the uncompressed device state in staging.
pub(super) const RAW_STATE: &str = "device.state.raw";

/// What a snapshot is made of. Dropped, nothing of it is left.
pub(crate) struct Material {
    /// Of the stopped VM, or a copy.
    pub(super) ram: Box<dyn PausedRam>,
    pub(super) layout: RamLayout,
    pub(super) parent: Option<ParentImage>,
    pub(super) survey: Option<Survey>,
    pub(super) report: Report,
    pub(super) steps: Steps,
    /// Holds the device state as the VMM wrote it, and the overlay disk.
    pub(super) staging: Staging,
    pub(super) draft: Draft,
}

impl Material {
    /// Notes for how long the guest did not run.
    pub(super) fn vcpus_were_stopped(&mut self, took: Duration) {
        self.steps.also("stopped in all", took);
        self.steps.skip();
    }

    /// Makes the snapshot. When this returns it is durable.
    pub(crate) fn store(mut self, shared: &Shared) -> Result<Stored> {
        let dir = self.staging.path().to_owned();
        let memory = Memory {
            ram: &*self.ram,
            layout: &self.layout,
            survey: self.survey.as_ref(),
            parent: self.parent.as_ref(),
            base: (&self.draft.machine.base_disk, &self.draft.base_disk),
            dir: &dir,
        };
        let image = memory.write(shared, &mut self.steps)?;
        self.report.counts = Some(image.counts);
        self.report.new_pack = image.stored.pack.map(|pack| pack.len).unwrap_or_default();
        let raw = dir.join(RAW_STATE);
        let packed = device_state::pack(&raw, &dir.join(DEVICE_STATE))
            .and_then(|packed| fs::remove_file(&raw).map(|()| packed))
            .map_err(|e| Error::storage("store the device state in", &dir, &e))?;
        self.report.steps = self.steps.into_reports();
        let manifest =
            self.draft.finish((&image.stored, image.base_index, image.overlay_content), &packed, &dir, &self.report)?;
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
