//! A host without VMs. It exists to fail: what works is tested with real guests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dormouse_guest_mem::Bytes;
use dormouse_lifecycle::{
    BuildProgress, BuildRequest, Built, Connected, DamagedObject, Endpoint, Error, Garbage, Inspection, NewSandbox,
    ObjectKind, OnTimeout, PauseOptions, Phase, RamMap, Result, SandboxId, SandboxInfo, Secret, SnapshotId,
    SnapshotInfo, StoreStats, TemplateInfo, TemplateName, Verification, VerifyReport, VerifyWatch,
};

use crate::serve::sandboxes::Sandboxes;

/// The one sandbox that runs.
pub(super) const RUNNING: &str = "i00000000000000000000";
/// The one that is paused.
pub(super) const PAUSED: &str = "i11111111111111111111";
/// One that is being paused.
pub(super) const PAUSING: &str = "i22222222222222222222";
/// Pausing this one finds the disk full.
pub(super) const FULL: &str = "i33333333333333333333";
/// The id of every snapshot.
pub(super) const SNAPSHOT: &str = "s00000000000000000000";
/// The token of all of them.
pub(super) const TOKEN: &str = "tok_secret";

/// Answers from constants.
#[derive(Default)]
pub(super) struct FakeHost {
    /// Where the running sandbox's agent is.
    pub(super) agent: Option<SocketAddr>,
    /// Set when a build or a verification saw that it is not wanted any more.
    pub(super) build_cancelled: Arc<AtomicBool>,
    /// Whether the host is shutting down.
    pub(super) closing: bool,
}

fn info(id: &SandboxId) -> Result<SandboxInfo> {
    let phase = match id.as_str() {
        RUNNING | FULL => Phase::Running,
        PAUSED => Phase::Paused,
        PAUSING => Phase::Pausing,
        _ => return Err(Error::NoSandbox(id.clone())),
    };
    let at = "2026-11-23T13:00:00Z".parse().unwrap();
    Ok(SandboxInfo {
        id: id.clone(),
        template: "base".parse().unwrap(),
        phase,
        reason: None,
        started_at: at,
        end_at: at,
        on_timeout: OnTimeout::Kill,
        metadata: BTreeMap::from([("of".to_owned(), id.to_string())]),
        vcpus: 1,
        ram: Bytes::mib(1024),
        disk: Bytes::mib(8192),
        snapshot: None,
        token: Secret::from(TOKEN.to_owned()),
    })
}

fn snapshot_of(sandbox: &SandboxId, name: Option<TemplateName>) -> SnapshotInfo {
    SnapshotInfo {
        id: SNAPSHOT.parse().unwrap(),
        sandbox: sandbox.clone(),
        template: "base".parse().unwrap(),
        name,
        created: "2026-11-23T13:00:00Z".parse().unwrap(),
        on_disk: Bytes::mib(3),
    }
}

fn must_run(id: &SandboxId, wanted: &'static str) -> Result<SandboxInfo> {
    let info = info(id)?;
    match info.phase {
        Phase::Running => Ok(info),
        phase => Err(Error::WrongPhase { id: id.clone(), phase, wanted }),
    }
}

#[async_trait]
impl Sandboxes for FakeHost {
    async fn create(&self, new: NewSandbox) -> Result<SandboxInfo> {
        if self.closing {
            return Err(Error::ShuttingDown);
        }
        match new.template.as_str() {
            "base" => info(&RUNNING.parse().unwrap()),
            _ => Err(Error::NoTemplate(new.template)),
        }
    }

    fn get(&self, id: &SandboxId) -> Result<SandboxInfo> {
        info(id)
    }

    fn list(&self) -> Vec<SandboxInfo> {
        [RUNNING, PAUSED, PAUSING].iter().map(|id| info(&id.parse().unwrap()).unwrap()).collect()
    }

    async fn pause(&self, id: &SandboxId, _: PauseOptions) -> Result<SnapshotId> {
        must_run(id, "paused")?;
        match id.as_str() {
            FULL => Err(Error::NoSpace { needed: Bytes::mib(2), available: Bytes::mib(1) }),
            _ => Ok(SnapshotId::random().unwrap()),
        }
    }

    async fn connect(&self, id: &SandboxId, _: Duration) -> Result<(SandboxInfo, Connected)> {
        let info = info(id)?;
        let connected = if info.phase == Phase::Paused { Connected::Resumed } else { Connected::WasRunning };
        Ok((info, connected))
    }

    async fn fork(&self, id: &SandboxId, count: usize, _: Duration) -> Result<Vec<Result<SandboxInfo>>> {
        info(id)?;
        let outcome = |n| if n % 2 == 0 { info(id) } else { Err(Error::Vmm("no luck".into())) };
        Ok((0..count).map(outcome).collect())
    }

    async fn kill(&self, id: &SandboxId) -> Result<()> {
        info(id).map(drop)
    }

    async fn set_timeout(&self, id: &SandboxId, _: Duration) -> Result<()> {
        must_run(id, "given another timeout").map(drop)
    }

    async fn endpoint(&self, id: &SandboxId) -> Result<Endpoint> {
        let info = must_run(id, "reached")?;
        let addr = self.agent.unwrap_or_else(|| "127.0.0.1:1".parse().unwrap());
        Ok(Endpoint { addr, token: info.token })
    }

    async fn console(&self, id: &SandboxId) -> Result<Vec<u8>> {
        must_run(id, "read").map(|_| b"boot\x1b[0m".to_vec())
    }

    async fn build_template(
        &self,
        name: TemplateName,
        _: BuildRequest,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<(TemplateInfo, Built)> {
        progress.step("one");
        if name.as_str() == "bad" {
            return Err(Error::Build("no such package: nope".into()));
        }
        for done in 0..100_000 {
            progress.advance(done, None);
        }
        while !progress.cancelled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.build_cancelled.store(true, Ordering::SeqCst);
        Err(Error::Cancelled)
    }

    fn templates(&self) -> Vec<TemplateInfo> {
        Vec::new()
    }

    async fn remove_template(&self, name: &TemplateName) -> Result<()> {
        match name.as_str() {
            "base" => Err(Error::TemplateInUse { name: name.clone(), sandboxes: 1 }),
            _ => Err(Error::NoTemplate(name.clone())),
        }
    }

    async fn checkpoint(&self, id: &SandboxId, name: Option<TemplateName>) -> Result<SnapshotInfo> {
        must_run(id, "taken a snapshot of")?;
        match name {
            Some(name) if name.as_str() == "base" => Err(Error::NameTaken(name)),
            name => Ok(snapshot_of(id, name)),
        }
    }

    fn snapshots(&self) -> Vec<SnapshotInfo> {
        let of = |id: &str, name: Option<&str>| snapshot_of(&id.parse().unwrap(), name.map(|n| n.parse().unwrap()));
        vec![of(RUNNING, Some("ready")), of(PAUSED, None)]
    }

    async fn remove_snapshot(&self, id_or_name: &str) -> Result<()> {
        match id_or_name {
            SNAPSHOT | "ready" => Ok(()),
            other => Err(Error::NoKeptSnapshot(other.to_owned())),
        }
    }

    async fn inspect(&self, snapshot: &SnapshotId) -> Result<Inspection> {
        Err(Error::NoSnapshot(snapshot.clone()))
    }

    async fn ram_map(&self, snapshot: &SnapshotId) -> Result<RamMap> {
        Err(Error::NoSnapshot(snapshot.clone()))
    }

    async fn store_stats(&self) -> Result<StoreStats> {
        Ok(StoreStats { packs: 7, ..StoreStats::default() })
    }

    /// Finds one thing damaged; of everything it never comes to an end.
    async fn verify_store(&self, wanted: Verification, watch: Arc<dyn VerifyWatch>) -> Result<VerifyReport> {
        let Verification { snapshots: wanted, fetch } = wanted;
        watch.step("packs");
        let snapshots = vec![SNAPSHOT.parse().unwrap()];
        let damaged =
            DamagedObject { kind: ObjectKind::Index, path: "snapshots/x".into(), reason: "flipped".into(), snapshots };
        watch.damaged(&damaged);
        while wanted.is_empty() && !watch.cancelled() {
            watch.advance(1, 2);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if wanted.is_empty() {
            self.build_cancelled.store(true, Ordering::SeqCst);
            return Err(Error::Cancelled);
        }
        let unread = if fetch { Vec::new() } else { vec![SNAPSHOT.parse().unwrap()] };
        Ok(VerifyReport { hurt: wanted, unread, damaged: vec![damaged], ..VerifyReport::default() })
    }

    async fn collect_garbage(&self, dry_run: bool) -> Result<Garbage> {
        match dry_run {
            true => Ok(Garbage { packs: 1, packs_freed: Bytes(5), ..Garbage::default() }),
            false => Err(Error::CannotCollect { what: "snapshots/x".into(), why: "damaged".into(), more: 1 }),
        }
    }

    async fn collect_remote_garbage(&self, dry_run: bool) -> Result<Garbage> {
        match dry_run {
            true => Ok(Garbage { remote_packs: 2, remote_freed: Bytes(6), ..Garbage::default() }),
            false => Err(Error::Remote { reason: "the daemon has none".into() }),
        }
    }
}
