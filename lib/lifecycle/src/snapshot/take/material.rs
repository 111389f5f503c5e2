//! A snapshot in the making: everything is gathered, and nothing depends on the guest any more but its RAM.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use dormouse_guest_mem::{PageClass, PageIndex, RamLayout};
use dormouse_image::publish::Staging;
use dormouse_image::{ImageSummary, Omit, WriteError, WriteOptions};
use dormouse_introspect::Survey;
use dormouse_vmm::PausedRam;

use crate::host::Shared;
use crate::snapshot::report::{Report, Steps};
use crate::snapshot::stored::{self, DEVICE_STATE, Draft, MEMORY};
use crate::snapshot::{Stored, device_state};
use crate::{Error, Result};

/// Name of the uncompressed device state in staging.
pub(super) const RAW_STATE: &str = "device.state.raw";

/// What a snapshot is made of. Dropped, nothing of it is left.
pub(crate) struct Material {
    /// Of the stopped VM, or a copy.
    pub(super) ram: Box<dyn PausedRam>,
    pub(super) layout: RamLayout,
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
        let image = self.write_memory(shared, &dir.join(MEMORY))?;
        self.steps.done("memory image");
        let raw = dir.join(RAW_STATE);
        let packed = device_state::pack(&raw, &dir.join(DEVICE_STATE))
            .and_then(|packed| fs::remove_file(&raw).map(|()| packed))
            .map_err(|e| Error::storage("store the device state in", &dir, &e))?;
        self.report.steps = self.steps.into_reports();
        let manifest = self.draft.finish(&image, &packed, &dir, &self.report)?;
        let written = manifest.write_into(&dir);
        written.map_err(|e| Error::storage("write the manifest in", &dir, &e))?;
        let place = shared.folder.snapshot(&self.draft.id);
        self.staging.publish(&place).map_err(|e| Error::storage("publish", &place, &e))?;
        Stored::open(place.clone(), self.draft.id).inspect_err(|_| drop(stored::remove_dir(&place)))
    }

    fn write_memory(&self, shared: &Shared, path: &Path) -> Result<ImageSummary> {
        let out = File::options().read(true).write(true).create_new(true).open(path);
        let out = out.map_err(|e| Error::storage("create", path, &e))?;
        let survey = self.survey.as_ref();
        let class_of = |page: PageIndex| survey.map_or(PageClass::Unknown, |s| s.classes.get(page));
        let omit = Omit { free: survey.map(|s| &s.free), class_of: &class_of };
        let options = WriteOptions { threads: shared.limits.image_threads, ..WriteOptions::default() };
        dormouse_image::write(&*self.ram, &self.layout, &omit, &out, options, &()).map_err(|error| match error {
            WriteError::NoSpace { needed, available } => Error::NoSpace { needed, available },
            other => Error::storage("write", path, &other),
        })
    }
}
