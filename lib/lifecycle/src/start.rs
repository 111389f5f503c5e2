//! Starting sandboxes: from a template, from a kept snapshot, from another sandbox's snapshot.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::agent::NewLife;
use crate::sandbox::{ForkSource, in_time};
use crate::snapshot::{Start, restore};
use crate::state::{self, DurablePhase, SandboxRecord, SnapshotRecord};
use crate::{Error, Host, NewSandbox, Result, SandboxId, SandboxInfo, Secret, SnapshotId, TemplateName};

/// What a new sandbox starts from.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The template that it descends from.
    template: TemplateName,
    snapshot: SnapshotId,
    /// The token that the agent in the snapshot wants, if it was given one.
    old_token: Option<Secret>,
    /// How many lives that agent has had.
    generation: u64,
    /// What the processes in the snapshot have in their environment.
    env: BTreeMap<String, String>,
}

impl Origin {
    pub(crate) fn template(template: TemplateName, snapshot: SnapshotId) -> Self {
        Self { template, snapshot, old_token: None, generation: 0, env: BTreeMap::new() }
    }

    pub(crate) fn sandbox(template: TemplateName, source: ForkSource) -> Self {
        let ForkSource { snapshot, token, generation, env } = source;
        Self { template, snapshot, old_token: Some(token), generation, env }
    }

    pub(crate) fn kept(record: SnapshotRecord) -> Self {
        let SnapshotRecord { id, template, token, generation, env, .. } = record;
        Self { template, snapshot: id, old_token: Some(token), generation, env }
    }
}

impl Host {
    /// Starts one sandbox.
    pub(crate) async fn start(&self, origin: Origin, new: NewSandbox) -> Result<SandboxInfo> {
        self.start_all(origin, new, 1).await?.pop().unwrap_or(Err(Error::ShuttingDown))
    }

    /// Starts equal sandboxes in a task of its own, so that a caller that goes away leaves either whole sandboxes, which
    /// are then removed, or nothing.
    pub(crate) async fn start_all(
        &self,
        origin: Origin,
        new: NewSandbox,
        count: usize,
    ) -> Result<Vec<Result<SandboxInfo>>> {
        let host = self.clone();
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let starts = (0..count).map(|_| host.start_now(&origin, new.clone()));
            let started = futures_util::future::join_all(starts).await;
            for unwanted in reply.send(started).err().into_iter().flatten().flatten() {
                if let Err(error) = host.kill(&unwanted.id).await {
                    tracing::warn!(sandbox = %unwanted.id, %error, "a sandbox whose caller went away could not be removed");
                }
            }
        });
        answer.await.map_err(|_| Error::ShuttingDown)
    }

    async fn start_now(&self, origin: &Origin, new: NewSandbox) -> Result<SandboxInfo> {
        let random = |e: getrandom::Error| Error::Vmm(format!("no random bytes on the host: {e}"));
        let _held = self.shared.readers.hold(&origin.snapshot);
        let stored = self.stored(&origin.snapshot)?;
        let now = Timestamp::now();
        let mut env = origin.env.clone();
        env.extend(new.env);
        let mut record = SandboxRecord {
            id: SandboxId::random().map_err(random)?,
            template: origin.template.clone(),
            phase: DurablePhase::Creating,
            last_failure: None,
            started_at: now,
            end_at: now,
            on_timeout: new.on_timeout,
            metadata: new.metadata,
            env,
            token: Secret::random().map_err(random)?,
            generation: origin.generation + 1,
            machine: stored.machine.clone(),
            snapshot: None,
        };
        let end_at = in_time(new.timeout)?;
        let _packs = self.shared.fetch(&stored).await?;
        let permit = self.shared.start_permit().await?;
        self.shared.save(&record)?;
        let start = Start {
            stored: &stored,
            run: self.shared.folder.run(&record.id),
            old_token: origin.old_token.clone(),
            life: NewLife {
                token: &record.token,
                env: &record.env,
                hostname: record.id.as_str(),
                generation: record.generation,
                now,
            },
        };
        let vm = match restore(&self.shared, &start).await {
            Ok(vm) => vm,
            Err(error) => {
                // The next start of the daemon removes a record that stays.
                let _ = state::remove_file(&self.shared.folder.sandbox(&record.id));
                return Err(error);
            }
        };
        drop(permit);
        record.end_at = end_at;
        record.phase = DurablePhase::Running;
        if let Err(error) = self.shared.save(&record) {
            self.shared.end_vm(&vm, &record.id).await?;
            let _ = state::remove_file(&self.shared.folder.sandbox(&record.id));
            return Err(error);
        }
        Ok(self.shared.own(record, Some(vm)))
    }
}
