//! What is done while the vCPUs are stopped.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dormouse_agent_proto::control::PrepareReport;
use dormouse_guest_mem::Bytes;
use dormouse_host_sys::Buffer;
use dormouse_image::publish::Staging;
use dormouse_vmm::{PausedRam, Vm};

use super::look_inside::{Hints, look_inside};
use super::material::{Material, RAW_STATE};
use super::{Subject, measure};
use crate::host::Shared;
use crate::snapshot::captured::CapturedRam;
use crate::snapshot::copy_disk;
use crate::snapshot::parent::ParentImage;
use crate::snapshot::report::{Report, Steps};
use crate::snapshot::stored::{DEVICE_STATE, Draft, OVERLAY};
use crate::{Comparison, Error, Result, SnapshotId};

/// What becomes of the VM afterwards.
pub(super) enum Fate {
    /// It ends once the snapshot is durable: RAM and disk can be used as they are.
    Ends {
        /// Non-zero RAM before the guest got ready, if other methods are to be compared.
        before: Option<Bytes>,
    },
    /// It goes on at once: what a snapshot needs is copied into `buffer` and into staging.
    GoesOn { buffer: Buffer },
}

/// Stops the vCPUs and gathers everything that a snapshot is made of. They are still stopped when this returns, whether it
/// succeeded or not.
pub(super) async fn gather(
    shared: &Arc<Shared>,
    subject: &Subject<'_>,
    prepared: &PrepareReport,
    fate: Fate,
    id: &SnapshotId,
    mut steps: Steps,
) -> Result<Material> {
    let folder = shared.folder.staging();
    let staging = Staging::create(&folder, id.as_str());
    let staging = staging.map_err(|e| Error::storage("create a folder in", &folder, &e))?;
    let (run, packs) = (subject.run.to_owned(), shared.packs.clone());
    let parent = crate::blocking(move || Ok(ParentImage::of(&run, &packs))).await?;
    steps.skip();
    subject.vm.pause().await.map_err(Error::vmm)?;
    steps.done("stop");
    let raw_state = subject.vm.save_device_state(DEVICE_STATE).await.map_err(Error::vmm)?;
    // Moved away: the VMM's own copy would stay with the VM for as long as that lives.
    fs::rename(&raw_state, staging.path().join(RAW_STATE))
        .map_err(|e| Error::storage("move the device state into", staging.path(), &e))?;
    steps.done("device state");

    let work = Work {
        vm: Arc::clone(subject.vm),
        overlay: subject.overlay.to_owned(),
        hints: Hints::of(prepared),
        parent,
        staging,
        draft: Draft {
            id: id.clone(),
            created: jiff::Timestamp::now(),
            template: subject.template.clone(),
            parent: subject.parent.cloned(),
            machine: subject.machine.clone(),
            fingerprint: shared.vmm.fingerprint(subject.vm.spec()),
            base_disk: shared.folder.artifacts().join(&subject.machine.base_disk),
        },
        threads: shared.limits.image_threads,
    };
    crate::blocking(move || work.gather(fate, steps)).await
}

/// Everything that the blocking part needs.
struct Work {
    vm: Arc<dyn Vm>,
    overlay: PathBuf,
    hints: Hints,
    parent: Option<ParentImage>,
    staging: Staging,
    draft: Draft,
    threads: usize,
}

impl Work {
    fn gather(self, fate: Fate, mut steps: Steps) -> Result<Material> {
        let live = self.vm.paused_ram().map_err(Error::vmm)?;
        let layout = self.vm.layout().clone();
        let (survey, introspection) = look_inside(&*live, &layout, &self.hints, &self.draft.id);
        steps.done("introspect");
        let mut comparison = None;
        let disk = self.staging.path().join(OVERLAY);
        let ram: Box<dyn PausedRam> = match fate {
            Fate::Ends { before } => {
                if let Some(non_zero_before) = before {
                    let non_zero_after = measure::count_non_zero(&*live)?;
                    comparison = Some(Comparison { non_zero_before, non_zero_after });
                    steps.done("measure");
                }
                // If the VM goes on after all, staging takes this name away again.
                fs::hard_link(&self.overlay, &disk)
                    .map_err(|e| Error::storage("link the overlay disk into", self.staging.path(), &e))?;
                live
            }
            Fate::GoesOn { buffer } => {
                let free = survey.as_ref().map(|s| &s.free);
                let copied = CapturedRam::copy(&*live, free, buffer, self.threads);
                let copied = copied.map_err(Error::io("copy the guest's RAM"))?;
                tracing::debug!(snapshot = %self.draft.id, copied = %copied.copied(), "RAM is copied");
                steps.done("copy");
                copy_disk(&self.overlay, &disk)?;
                Box::new(copied)
            }
        };
        steps.done("disks");
        let report = Report { introspection, comparison, counts: None, new_pack: Bytes(0), steps: Vec::new() };
        let (parent, staging, draft) = (self.parent, self.staging, self.draft);
        Ok(Material { ram, layout, parent, survey, report, steps, staging, draft })
    }
}
