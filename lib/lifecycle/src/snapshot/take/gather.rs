//! What is done while the vCPUs are stopped.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_agent_proto::control::PrepareReport;
use dormouse_guest_mem::Bytes;
use dormouse_image::publish::Staging;
use dormouse_vmm::{PausedRam, Vm};

use super::look_inside::{Found, Hints, look_inside};
use super::material::{Material, RAW_STATE, Stop};
use super::room::Room;
use super::{Subject, measure};
use crate::host::Shared;
use crate::snapshot::EarlyCopy;
use crate::snapshot::captured::{Ahead, CapturedRam, Copied};
use crate::snapshot::parent::ParentImage;
use crate::snapshot::report::Steps;
use crate::snapshot::stored::{DEVICE_STATE, Draft, OVERLAY};
use crate::{Comparison, Error, Result, SnapshotId};

/// What becomes of the VM afterwards.
pub(super) enum Fate {
    /// It ends once the snapshot is durable: RAM and disk can be used as they are.
    Ends {
        /// Non-zero RAM before the guest got ready, if other methods are to be compared.
        before: Option<Bytes>,
    },
    /// It goes on at once: what a snapshot needs is copied into `room`, as far as it was not ahead, and into staging.
    GoesOn { room: Room },
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
    let mut work = Work {
        vm: Arc::clone(subject.vm),
        overlay: subject.overlay.to_owned(),
        hints: Hints::of(prepared),
        parent,
        draft: Draft {
            id: id.clone(),
            created: jiff::Timestamp::now(),
            template: subject.template.clone(),
            parent: subject.parent.cloned(),
            machine: subject.machine.clone(),
            fingerprint: shared.vmm.fingerprint(subject.vm.spec()),
            base_disk: shared.folder.artifacts().join(&subject.machine.base_disk),
        },
        staging,
        threads: shared.limits.image_threads,
    };
    match fate {
        Fate::Ends { before } => {
            steps.skip();
            let stop = Stop::begins();
            subject.vm.pause().await.map_err(Error::vmm)?;
            steps.done("stop");
            save_state(subject.vm, work.staging.path().to_owned()).await?;
            steps.done("device state");
            crate::blocking(move || work.all_of_it(before, steps, stop)).await
        }
        Fate::GoesOn { room } => {
            let (overlay, disk) = (work.overlay.clone(), work.staging.path().join(OVERLAY));
            let early = crate::blocking(move || Ok(EarlyCopy::begin(&overlay, &disk))).await?;
            steps.done("copy disk");
            work.draft.created = jiff::Timestamp::now();
            let stop = Stop::begins();
            subject.vm.pause().await.map_err(Error::vmm)?;
            steps.done("stop");
            // The VMM saves the state of devices while RAM is copied: neither changes what the other reads.
            let state = save_state(subject.vm, work.staging.path().to_owned());
            let (state, copied) = tokio::join!(state, crate::blocking(move || work.copy(room, early, steps, stop)));
            let mut material = copied?;
            material.steps.done("wait for device state");
            material.steps.also("device state in all", state?);
            Ok(material)
        }
    }
}

/// Has the VMM save the state of the VM's devices; says how long that took.
async fn save_state(vm: &Arc<dyn Vm>, staging: PathBuf) -> Result<Duration> {
    let began = Instant::now();
    let raw_state = vm.save_device_state(DEVICE_STATE).await.map_err(Error::vmm)?;
    // Moved away: the VMM's own copy would stay with the VM for as long as that lives.
    fs::rename(&raw_state, staging.join(RAW_STATE))
        .map_err(|e| Error::storage("move the device state into", &staging, &e))?;
    Ok(began.elapsed())
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
    /// For a VM that ends.
    fn all_of_it(self, before: Option<Bytes>, mut steps: Steps, stop: Stop) -> Result<Material> {
        let ram = self.vm.paused_ram().map_err(Error::vmm)?;
        let layout = self.vm.layout().clone();
        let found = look_inside(&*ram, &layout, &self.hints, &self.draft.id);
        steps.done("introspect");
        let mut comparison = None;
        if let Some(non_zero_before) = before {
            let non_zero_after = measure::count_non_zero(&*ram)?;
            comparison = Some(Comparison { non_zero_before, non_zero_after });
            steps.done("measure");
        }
        // If the VM goes on after all, staging takes this name away again.
        fs::hard_link(&self.overlay, self.staging.path().join(OVERLAY))
            .map_err(|e| Error::storage("link the overlay disk into", self.staging.path(), &e))?;
        steps.done("disks");
        let Self { parent, staging, draft, .. } = self;
        Ok(Material { ram, layout, parent, found: Found::Now(found), comparison, stop, steps, staging, draft })
    }

    /// For a VM that is about to go on: only what cannot wait.
    fn copy(self, room: Room, early: EarlyCopy, mut steps: Steps, mut stop: Stop) -> Result<Material> {
        let (live, ahead) = self.written_last(room.ahead)?;
        let layout = self.vm.layout().clone();
        steps.done("find written pages");
        let found = if room.look_first {
            let found = look_inside(&*live, &layout, &self.hints, &self.draft.id);
            steps.done("introspect");
            Found::Now(found)
        } else {
            Found::Later(self.hints)
        };
        let captured = CapturedRam::copy(&*live, found.free(), ahead, room.buffer, self.threads);
        let captured = captured.map_err(Error::io("copy the guest's RAM"))?;
        steps.done("copy");
        (stop.copied, stop.ahead) = captured.copied();
        let again = early.finish()?;
        stop.kept = Some((early, live));
        steps.done(if again { "copy disk again" } else { "disks" });
        let Self { parent, staging, draft, .. } = self;
        Ok(Material { ram: Box::new(captured), layout, parent, found, comparison: None, stop, steps, staging, draft })
    }

    /// The RAM of the VM, which stands still, and what was copied of it ahead.
    fn written_last(&self, ahead: Option<Ahead>) -> Result<(Box<dyn PausedRam>, Option<Copied>)> {
        match ahead.map(Ahead::finish) {
            Some(Ok((ram, copied))) => return Ok((ram, Some(copied))),
            Some(Err(error)) => {
                tracing::warn!(snapshot = %self.draft.id, %error, "what the VM wrote last is not known: copying all of it again");
            }
            None => {}
        }
        Ok((self.vm.paused_ram().map_err(Error::vmm)?, None))
    }
}
