//! Taking a snapshot of a running VM. When this succeeds the snapshot is durable and the VM is still paused; when it
//! fails the VM runs on as if nothing had been asked, and nothing is left on disk.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dormouse_agent_proto::control::{PrepareReport, StepOutcome};
use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageClass, PageIndex, RamLayout, RamSource, is_zero};
use dormouse_image::publish::Staging;
use dormouse_image::{ImageSummary, Omit, WriteError, WriteOptions};
use dormouse_introspect::{NoteLocation, Request, Survey};
use dormouse_vmm::Vm;

use super::report::{Report, Steps};
use super::stored::{self, DEVICE_STATE, MEMORY, OVERLAY};
use super::{Stored, device_state};
use crate::agent::Agent;
use crate::error::with_causes;
use crate::host::Shared;
use crate::state::Machine;
use crate::{Comparison, Error, Introspection, PauseOptions, Result, SnapshotId, TemplateName};

/// How often a VM that does not go on after a failed pause is told to.
const RESUME_TRIES: u32 = 3;

/// No honest agent has more steps; a hostile one must not flood the log.
const MOST_STEPS: usize = 16;
const LONGEST_NAME: usize = 24;

/// What a snapshot is taken of.
pub(crate) struct Subject<'a> {
    pub(crate) vm: &'a Arc<dyn Vm>,
    pub(crate) agent: &'a Agent,
    pub(crate) machine: &'a Machine,
    pub(crate) template: &'a TemplateName,
    /// The snapshot that the VM was started from, if any.
    pub(crate) parent: Option<&'a SnapshotId>,
    /// The folder of the VM.
    pub(crate) run: &'a Path,
    pub(crate) overlay: &'a Path,
}

/// Takes a snapshot under the name `id`. The VM is left paused on success: its owner ends it.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    subject: &Subject<'_>,
    options: PauseOptions,
    id: &SnapshotId,
) -> Result<Stored> {
    let mut steps = Steps::start();
    let taken = async {
        let mut before = None;
        if options.measure {
            before = Some(measure_running(subject.vm).await?);
            steps.done("measure");
        }
        let prepared = subject.agent.prepare(options.cache, &shared.limits).await?;
        steps.done("prepare");
        passed_over(id, &prepared).for_each(|(name, took)| steps.also(&name, took));
        stop_and_store(shared, subject, &prepared, before, id, steps).await
    };
    match taken.await {
        Ok(stored) => Ok(stored),
        Err(error) => {
            // Written by the VMM only when it got that far.
            let _ = fs::remove_file(subject.run.join(DEVICE_STATE));
            Err(call_off(shared, subject.vm, subject.agent, error).await)
        }
    }
}

/// Steps of prepare that overran or failed, and how long they took. That costs bytes or warmth, never content; somebody may still
/// want to know, so it is logged and goes into the snapshot's report.
fn passed_over<'a>(id: &'a SnapshotId, report: &'a PrepareReport) -> impl Iterator<Item = (String, Duration)> + 'a {
    let steps = report.steps.iter().filter_map(|step| match step.outcome {
        StepOutcome::Overran => Some((step, "overran")),
        StepOutcome::Failed => Some((step, "failed")),
        _ => None,
    });
    steps.take(MOST_STEPS).map(move |(step, outcome)| {
        let detail = printable(step.detail.as_deref().unwrap_or_default());
        let letters = step.name.chars().filter(|c| c.is_ascii_lowercase() || *c == ' ').take(LONGEST_NAME);
        let name = letters.collect::<String>();
        tracing::warn!(snapshot = %id, step = name, ms = step.ms, outcome, detail, "the guest did not get ready in full");
        (format!("prepare {name} {outcome}"), Duration::from_millis(step.ms))
    })
}

/// The start of a text from the guest, without what could confuse a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Lets the guest go on after an attempt that failed with `error`; gives the error to report.
pub(crate) async fn call_off(shared: &Shared, vm: &Arc<dyn Vm>, agent: &Agent, error: Error) -> Error {
    match let_go_on(shared, vm, agent).await {
        Ok(()) => error,
        Err(stuck) => Error::Vmm(format!("{error}; and the VM could not go on afterwards: {stuck}")),
    }
}

/// Lets the guest run, and tells its agent that no snapshot follows.
pub(crate) async fn let_go_on(shared: &Shared, vm: &Arc<dyn Vm>, agent: &Agent) -> Result<()> {
    let mut resumed = vm.resume().await;
    for _ in 1..RESUME_TRIES {
        if resumed.is_ok() {
            break;
        }
        resumed = vm.resume().await;
    }
    resumed.map_err(Error::vmm)?;
    if let Err(error) = agent.abort(&shared.limits).await {
        tracing::warn!(%error, "the agent did not confirm that the pause is called off; its watchdog will do it");
    }
    Ok(())
}

async fn stop_and_store(
    shared: &Arc<Shared>,
    subject: &Subject<'_>,
    prepared: &PrepareReport,
    non_zero_before: Option<Bytes>,
    id: &SnapshotId,
    mut steps: Steps,
) -> Result<Stored> {
    subject.vm.pause().await.map_err(Error::vmm)?;
    steps.done("stop");
    let raw_state = subject.vm.save_device_state(DEVICE_STATE).await.map_err(Error::vmm)?;
    steps.done("device state");

    let work = Work {
        vm: Arc::clone(subject.vm),
        raw_state,
        overlay: subject.overlay.to_owned(),
        note: prepared.vmcoreinfo.clone(),
        mem_free: Bytes(prepared.mem_free),
        free_pages_are_checked: prepared.checked_free_pages,
        non_zero_before,
        manifest: stored::Draft {
            id: id.clone(),
            created: jiff::Timestamp::now(),
            template: subject.template.clone(),
            parent: subject.parent.cloned(),
            machine: subject.machine.clone(),
            fingerprint: shared.vmm.fingerprint(subject.vm.spec()),
            base_disk: shared.folder.artifacts().join(&subject.machine.base_disk),
        },
    };
    let shared = Arc::clone(shared);
    crate::blocking(move || work.store(&shared, steps)).await
}

/// Everything that the blocking part needs.
struct Work {
    vm: Arc<dyn Vm>,
    raw_state: std::path::PathBuf,
    overlay: std::path::PathBuf,
    note: Option<String>,
    mem_free: Bytes,
    free_pages_are_checked: bool,
    non_zero_before: Option<Bytes>,
    manifest: stored::Draft,
}

impl Work {
    fn store(self, shared: &Shared, mut steps: Steps) -> Result<Stored> {
        let ram = self.vm.paused_ram().map_err(Error::vmm)?;
        let (survey, introspection) = self.look_inside(&*ram);
        steps.done("introspect");
        let comparison = match self.non_zero_before {
            None => None,
            Some(non_zero_before) => {
                let non_zero_after = count_non_zero(&*ram)?;
                steps.done("measure");
                Some(Comparison { non_zero_before, non_zero_after })
            }
        };

        let folder = &shared.folder;
        let staging = Staging::create(&folder.staging(), self.manifest.id.as_str())
            .map_err(|e| Error::storage("create a folder in", &folder.staging(), &e))?;
        let image = self.write_memory(shared, &*ram, survey.as_ref(), &staging.path().join(MEMORY))?;
        steps.done("memory image");

        let packed = device_state::pack(&self.raw_state, &staging.path().join(DEVICE_STATE))
            .map_err(|e| Error::storage("store the device state in", staging.path(), &e))?;
        // The VMM's own copy would otherwise stay with the VM for as long as that lives.
        let _ = fs::remove_file(&self.raw_state);
        // The VM is stopped and ends next; if it goes on instead, staging takes this name away again.
        fs::hard_link(&self.overlay, staging.path().join(OVERLAY))
            .map_err(|e| Error::storage("link the overlay disk into", staging.path(), &e))?;
        steps.done("disks");

        let report = Report { introspection, comparison, steps: steps.into_reports() };
        let manifest = self.manifest.finish(&image, &packed, staging.path(), &report)?;
        let written = manifest.write_into(staging.path());
        written.map_err(|e| Error::storage("write the manifest in", staging.path(), &e))?;
        let place = folder.snapshot(&self.manifest.id);
        staging.publish(&place).map_err(|e| Error::storage("publish", &place, &e))?;
        Stored::open(place.clone(), self.manifest.id).inspect_err(|_| drop(stored::remove_dir(&place)))
    }

    /// Reads the guest's page structures, or says why not.
    fn look_inside(&self, ram: &dyn RamSource) -> (Option<Survey>, Introspection) {
        let zero_only = |reason: String| {
            tracing::warn!(snapshot = %self.manifest.id, reason, "free pages are not known: leaving out zero pages only");
            (None, Introspection::ZeroOnly { reason })
        };
        if self.free_pages_are_checked {
            return zero_only("the guest's kernel checks the content of free pages".to_owned());
        }
        let note = match self.note.as_deref().map(str::parse::<NoteLocation>) {
            Some(Err(error)) => return zero_only(error.to_string()),
            Some(Ok(note)) => Some(note),
            None => None,
        };
        let request = Request { ram, layout: self.vm.layout(), note, mem_free: Some(self.mem_free) };
        match dormouse_introspect::survey(&request) {
            Ok(survey) => {
                let kernel = survey.kernel.release.clone();
                (Some(survey), Introspection::Pages { kernel })
            }
            Err(error) => zero_only(with_causes(&error)),
        }
    }

    fn write_memory(
        &self,
        shared: &Shared,
        ram: &dyn RamSource,
        survey: Option<&Survey>,
        path: &Path,
    ) -> Result<ImageSummary> {
        let out = File::options().read(true).write(true).create_new(true).open(path);
        let out = out.map_err(|e| Error::storage("create", path, &e))?;
        let class_of = |page: PageIndex| survey.map_or(PageClass::Unknown, |s| s.classes.get(page));
        let omit = Omit { free: survey.map(|s| &s.free), class_of: &class_of };
        let options = WriteOptions { threads: shared.limits.image_threads, ..WriteOptions::default() };
        let layout: &RamLayout = self.vm.layout();
        dormouse_image::write(ram, layout, &omit, &out, options, &()).map_err(|error| match error {
            WriteError::NoSpace { needed, available } => Error::NoSpace { needed, available },
            other => Error::storage("write", path, &other),
        })
    }
}

/// Stops the guest for a moment and counts its non-zero RAM.
async fn measure_running(vm: &Arc<dyn Vm>) -> Result<Bytes> {
    vm.pause().await.map_err(Error::vmm)?;
    let reader = Arc::clone(vm);
    let counted = crate::blocking(move || count_non_zero(&*reader.paused_ram().map_err(Error::vmm)?)).await;
    vm.resume().await.map_err(Error::vmm)?;
    counted
}

/// Non-zero pages of the whole RAM, as bytes.
fn count_non_zero(ram: &dyn RamSource) -> Result<Bytes> {
    let failed = || Error::io("read the guest's RAM");
    let mut chunk = vec![0u8; 256 * PAGE_SIZE];
    let mut pages = 0u64;
    for range in ram.populated().map_err(failed())? {
        let mut at = range.start;
        while at < range.end {
            let take = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(chunk.len());
            let Some(part) = chunk.get_mut(..take) else { break };
            ram.read_at(at, part).map_err(failed())?;
            pages += part.chunks(PAGE_SIZE).filter(|page| !is_zero(page)).count() as u64;
            at += take as u64;
        }
    }
    Ok(Bytes::of_pages(pages))
}
