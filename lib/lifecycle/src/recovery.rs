//! Making sense of what a former daemon left. Afterwards every sandbox is running, paused, or lost with a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_vmm::{RunState, Vm};

use crate::agent::Agent;
use crate::host::Shared;
use crate::snapshot::{Stored, let_go_on};
use crate::state::{self, DurablePhase, SandboxRecord};
use crate::{RemoteFound, SandboxId, SnapshotId};

/// What was found when a state folder was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Sandboxes whose VMs went on without a daemon.
    pub adopted: Vec<SandboxId>,
    /// Sandboxes that are lost, and why.
    pub lost: Vec<(SandboxId, String)>,
    /// How many sandboxes are paused.
    pub paused: usize,
    /// How many half-made or half-removed things were cleared away.
    pub swept: usize,
    /// Records and folders that cannot be read, and why. They are left as they are, and nothing is cleared away.
    pub unreadable: Vec<(String, String)>,
    /// The remote store, if there is one.
    pub remote: Option<RemoteFound>,
}

/// Goes through all sandboxes, decides for each what it is now, and starts its owner.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Recovery {
    let mut recovery = Recovery::default();
    for (path, reason) in shared.templates.unreadable().iter().chain(shared.kept.unreadable()) {
        recovery.unreadable.push((path.clone(), reason.clone()));
    }
    // Before anything can be taken or removed.
    shared.packs.recall(&shared.folder);
    let records = read_records(shared, &mut recovery);
    for record in records {
        recover_one(shared, record, &mut recovery).await;
    }
    // What cannot be read may be the only record of a VM or a snapshot: then nothing is swept.
    if recovery.unreadable.is_empty() {
        sweep_runs(shared, &mut recovery).await;
        sweep_snapshots(shared, &mut recovery);
        shared.packs.collect();
    }
    shared.remote.reconcile(&shared.folder, recovery.unreadable.is_empty()).await;
    recovery
}

fn read_records(shared: &Shared, recovery: &mut Recovery) -> Vec<SandboxRecord> {
    let mut records = Vec::new();
    for path in entries(&shared.folder.sandboxes(), recovery) {
        if path.extension().is_some_and(|e| e == "half") {
            recovery.swept += usize::from(fs::remove_file(&path).is_ok());
            continue;
        }
        match state::read_json::<SandboxRecord>(&path) {
            Ok(record) if shared.folder.sandbox(&record.id) == path => records.push(record),
            Ok(record) => note_unreadable(recovery, &path, format!("it is the record of {}", record.id)),
            Err(error) => note_unreadable(recovery, &path, error.to_string()),
        }
    }
    records
}

fn note_unreadable(recovery: &mut Recovery, path: &Path, reason: String) {
    recovery.unreadable.push((path.display().to_string(), reason));
}

async fn recover_one(shared: &Arc<Shared>, mut record: SandboxRecord, recovery: &mut Recovery) {
    let (phase, vm) = settle(shared, &mut record).await;
    let Some(phase) = phase else {
        recovery.swept += 1;
        remove(shared, &record);
        return;
    };
    match &phase {
        DurablePhase::Running => recovery.adopted.push(record.id.clone()),
        DurablePhase::Paused => recovery.paused += 1,
        DurablePhase::Lost { reason } => recovery.lost.push((record.id.clone(), reason.clone())),
        _ => {}
    }
    if record.phase != phase {
        record.phase = phase;
        if let Err(error) = shared.save(&record) {
            tracing::warn!(sandbox = %record.id, %error, "what became of a sandbox could not be recorded");
        }
    }
    shared.own(record, vm);
}

/// What a sandbox is now, and its VM if it runs. `None` when it is to be cleared away.
async fn settle(shared: &Arc<Shared>, record: &mut SandboxRecord) -> (Option<DurablePhase>, Option<Arc<dyn Vm>>) {
    match record.phase.clone() {
        // Nobody was told about the first; somebody was promised the second.
        DurablePhase::Creating | DurablePhase::Removing => {
            end_leftover(shared, &record.id).await;
            (None, None)
        }
        DurablePhase::Running => go_on(shared, record).await,
        DurablePhase::Pausing { pending } => {
            if let Ok(stored) = Stored::open(shared.folder.snapshot(&pending), pending) {
                end_leftover(shared, &record.id).await;
                record.snapshot = Some(stored.id);
                return (Some(DurablePhase::Paused), None);
            }
            go_on(shared, record).await
        }
        DurablePhase::Paused | DurablePhase::Resuming => {
            end_leftover(shared, &record.id).await;
            (Some(check_paused(shared, record)), None)
        }
        lost @ DurablePhase::Lost { .. } => (Some(lost), None),
    }
}

/// A VM that should run: takes it over, wherever the daemon left it.
async fn go_on(shared: &Arc<Shared>, record: &SandboxRecord) -> (Option<DurablePhase>, Option<Arc<dyn Vm>>) {
    let lost = |reason: String| (Some(DurablePhase::Lost { reason }), None);
    let vm = match shared.vmm.adopt(&shared.folder.run(&record.id)).await {
        Ok(vm) => vm,
        Err(error) => return lost(format!("its VM ended while no daemon ran: {error}")),
    };
    match vm.run_state().await {
        Ok(RunState::Running | RunState::Paused) => {
            // The daemon may have died anywhere in a pause: the guest may be stopped, prepared, or neither.
            let agent = Agent::new(vm.agent_addr(), Some(record.token.clone()));
            match let_go_on(shared, &vm, &agent).await {
                Ok(()) => (Some(DurablePhase::Running), Some(vm)),
                Err(error) => lost(format!("its VM could not go on: {error}")),
            }
        }
        other => {
            end_leftover(shared, &record.id).await;
            lost(match other {
                Ok(state) => format!("its VM was found {state:?}"),
                Err(error) => error.to_string(),
            })
        }
    }
}

fn check_paused(shared: &Shared, record: &SandboxRecord) -> DurablePhase {
    let Some(id) = record.snapshot.clone() else {
        return DurablePhase::Lost { reason: "it was paused, but its record names no snapshot".into() };
    };
    match Stored::open(shared.folder.snapshot(&id), id) {
        Ok(_) => DurablePhase::Paused,
        Err(error) => DurablePhase::Lost { reason: error.to_string() },
    }
}

/// Ends a VM that has no right to live any more, and removes its folder.
async fn end_leftover(shared: &Arc<Shared>, id: &SandboxId) {
    if let Err(error) = shared.clear_leftover(id).await {
        tracing::error!(sandbox = %id, %error, "a leftover VM could not be cleared away");
    }
}

fn remove(shared: &Shared, record: &SandboxRecord) {
    if let Some(snapshot) = &record.snapshot {
        shared.remove_snapshot(snapshot);
    }
    if let Err(error) = state::remove_file(&shared.folder.sandbox(&record.id)) {
        tracing::warn!(sandbox = %record.id, %error, "a half-made sandbox could not be removed");
    }
}

/// Ends VMs whose sandboxes are gone or lost, and removes their folders.
async fn sweep_runs(shared: &Arc<Shared>, recovery: &mut Recovery) {
    for path in entries(&shared.folder.runs(), recovery) {
        let id = file_name(&path).parse::<SandboxId>();
        if id.as_ref().is_ok_and(|id| recovery.adopted.contains(id)) {
            continue;
        }
        recovery.swept += 1;
        if let Ok(vm) = shared.vmm.adopt(&path).await
            && let Err(error) = vm.kill().await
        {
            tracing::error!(run = %path.display(), %error, "a leftover VM could not be ended");
            continue;
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => shared.packs.run_is_gone(&path),
            Err(error) => tracing::warn!(run = %path.display(), %error, "a leftover folder could not be removed"),
        }
    }
}

/// Removes snapshots that nobody keeps, and that no sandbox and no template names: superseded ones whose removal was cut
/// off, and those that were made for a fork.
fn sweep_snapshots(shared: &Shared, recovery: &mut Recovery) {
    let mut named: BTreeSet<SnapshotId> = shared.templates.all().into_iter().map(|t| t.snapshot).collect();
    named.extend(shared.snapshots_of_sandboxes());
    named.extend(shared.kept.all().into_iter().map(|kept| kept.id));
    for path in entries(&shared.folder.snapshots(), recovery) {
        let Ok(id) = file_name(&path).parse::<SnapshotId>() else { continue };
        if named.contains(&id) {
            recovery.swept += Stored::open(path, id).map_or(0, |stored| stored.clear_leftovers());
            continue;
        }
        recovery.swept += 1;
        match crate::snapshot::remove_dir(&path) {
            Ok(()) => shared.packs.snapshot_is_gone(&id),
            Err(error) => tracing::warn!(%error, "a leftover snapshot could not be removed"),
        }
    }
}

/// What is in a folder. One that cannot be listed counts as unreadable, never as empty.
fn entries(dir: &Path, recovery: &mut Recovery) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir).and_then(|all| all.map(|entry| entry.map(|e| e.path())).collect());
    listed.unwrap_or_else(|error| {
        note_unreadable(recovery, dir, error.to_string());
        Vec::new()
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
