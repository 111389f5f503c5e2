//! The remote behind the folder of packs: what is published here goes up, and what is not here comes down before a resume.
//!
//! Nothing that a pause does waits for it. A resume waits only for packs that are nowhere else.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dormouse_guest_mem::Bytes;
use dormouse_image::PackRef;
use dormouse_store::remote::{
    LocalSnapshot, Remote, RemoteCollected, RemoteError, RemoteLimits, RemoteOptions, Target, UploadState,
};
use dormouse_store::{PackId, Packs, Pins, SnapshotName, Steps, StoreError};
use tokio::sync::watch;

use super::Stored;
use crate::error::with_causes;
use crate::state::StateFolder;
use crate::{Error, RemoteCopy, Result, SnapshotId};

/// How long the start waits for a remote that does not answer.
const PROBE: Duration = Duration::from_secs(10);
/// How often a fetch that takes long is told of in the log.
const TELL: Duration = Duration::from_secs(10);

/// A remote behind the state folder.
#[derive(Clone, Debug)]
pub struct RemoteSetup {
    /// Where it is.
    pub target: Target,
    /// What packs may take on this machine; with no bound all stay.
    pub cache: Option<Bytes>,
    /// How patient to be with it.
    pub limits: RemoteLimits,
}

/// What was found of the remote at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFound {
    /// Where it is. Names no secret.
    pub shown: String,
    /// Why it does not answer now. Snapshots then stay here, and go up when it does.
    pub unreachable: Option<String>,
}

/// Where a pack is that is not here.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// There is no remote.
    NoRemote,
    /// On the remote, by its length; nobody read it.
    There,
    /// It is here now, and whole.
    Fetched(Pins),
    /// The remote cannot make up for it: why.
    Damaged(String),
    /// The remote could not be asked: why.
    Unknown(String),
}

/// The remote of a host, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Behind {
    remote: Option<Remote>,
    packs: Packs,
    /// How long a resume may wait for its packs.
    patience: Duration,
    /// Whether the daemon ends: nobody waits for packs then.
    ending: watch::Sender<bool>,
}

impl Behind {
    /// Starts to work with a remote, after asking it once whether it can be worked with.
    pub(crate) async fn start(
        setup: Option<RemoteSetup>,
        packs: &Packs,
        ledger: &Path,
        patience: Duration,
    ) -> std::result::Result<(Self, Option<RemoteFound>), RemoteError> {
        let Some(RemoteSetup { target, cache, limits }) = setup else {
            return Ok((
                Self { remote: None, packs: packs.clone(), patience, ending: watch::Sender::new(false) },
                None,
            ));
        };
        let shown = target.to_string();
        let (packs, ledger) = (packs.clone(), ledger.to_owned());
        let options = RemoteOptions { target, limits, packs: packs.clone(), ledger, cache, steps: Steps::default() };
        let remote = Remote::start(options)?;
        let unreachable = match remote.probe(PROBE).await {
            Ok(()) => None,
            Err(error @ RemoteError::Unavailable { .. }) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let behind = Self { remote: Some(remote), packs, patience, ending: watch::Sender::new(false) };
        Ok((behind, Some(RemoteFound { shown, unreachable })))
    }

    /// Lets everything go up that is here and not there, and, if what is here is all that there is (`complete`), takes away
    /// what is not here any more. To be called once, before anything can be taken or removed.
    pub(crate) async fn reconcile(&self, folder: &StateFolder, complete: bool) {
        let Some(remote) = &self.remote else { return };
        let (local, all_read) = published(folder);
        if let Err(error) = remote.reconcile(local, complete && all_read).await {
            tracing::warn!(%error, "what is still to go up could not be found out; the next start of the daemon does it");
        }
        remote.trim();
    }

    /// A published snapshot that stays goes up. To be called again when its manifest has changed.
    pub(crate) fn snapshot_is_there(&self, stored: &Stored) {
        let Some(remote) = &self.remote else { return };
        match local(stored) {
            Ok(snapshot) => remote.upload(snapshot),
            Err(reason) => tracing::warn!(snapshot = %stored.id, reason, "a snapshot cannot go up"),
        }
    }

    /// A snapshot is gone from here, and is to go from there.
    pub(crate) fn snapshot_is_gone(&self, id: &SnapshotId) {
        if let (Some(remote), Ok(name)) = (&self.remote, SnapshotName::try_from(id.as_str())) {
            remote.forget(&name);
        }
    }

    /// Packs may go that were needed until now.
    pub(crate) fn trim(&self) {
        if let Some(remote) = &self.remote {
            remote.trim();
        }
    }

    /// Makes sure that all packs of a snapshot are here, and keeps them for as long as the result is held.
    pub(crate) async fn fetch(&self, stored: &Stored) -> Result<Option<Pins>> {
        self.fetch_packs(&stored.id, stored.packs()).await
    }

    /// The same for these packs of a snapshot.
    pub(crate) async fn fetch_packs(&self, id: &SnapshotId, wanted: &[PackRef]) -> Result<Option<Pins>> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let absent = self.absent(wanted);
        if absent.0 > 0 {
            let (packs, bytes) = absent;
            tracing::info!(snapshot = %id, packs, %bytes, "fetching packs from the remote");
        }
        let begun = Instant::now();
        let fetching = tokio::time::timeout(self.patience, remote.ensure(wanted.iter().map(|pack| pack.id)));
        let fetched = tokio::select! {
            fetched = fetching => fetched,
            () = self.tell(id, wanted) => return Err(Error::ShuttingDown),
        };
        let failed = |reason| Error::NotFetched { snapshot: id.clone(), reason };
        let pins = fetched
            .map_err(|_| failed(format!("{} of packs did not come within {:?}", self.absent(wanted).1, self.patience)))?
            .map_err(|error| no_space(&error).unwrap_or_else(|| failed(with_causes(&error))))?;
        if absent.0 > 0 {
            tracing::info!(snapshot = %id, took = ?begun.elapsed(), "its packs are here");
        }
        Ok(Some(pins))
    }

    /// Whether the remote is known to have a pack. It is not asked.
    pub(crate) fn has(&self, id: &PackId) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.has_pack(id))
    }

    /// Asks the remote for a pack that is not here, and with `fetch` gets it.
    pub(crate) async fn look_for(&self, pack: &PackRef, fetch: bool) -> Elsewhere {
        let Some(remote) = &self.remote else { return Elsewhere::NoRemote };
        let asked = async {
            if fetch {
                return remote.ensure([pack.id]).await.map(Elsewhere::Fetched);
            }
            Ok(match remote.pack_len(&pack.id).await? {
                Some(len) if len == pack.len => Elsewhere::There,
                Some(len) => {
                    Elsewhere::Damaged(format!("it is not here, and on the remote it has {len}, not {}", pack.len))
                }
                None => Elsewhere::Damaged("it is neither here nor on the remote".to_owned()),
            })
        };
        let patience = if fetch { self.patience } else { PROBE };
        let ends = async { self.ending.subscribe().wait_for(|ends| *ends).await.is_ok() };
        tokio::select! {
            answered = tokio::time::timeout(patience, asked) => match answered {
                Ok(Ok(found)) => found,
                Ok(Err(error @ (RemoteError::Absent { .. } | RemoteError::Damaged { .. }))) => {
                    Elsewhere::Damaged(format!("it is not here, and {}", with_causes(&error)))
                }
                Ok(Err(error)) => Elsewhere::Unknown(with_causes(&error)),
                Err(_) => Elsewhere::Unknown(format!("the remote did not answer within {patience:?}")),
            },
            _ = ends => Elsewhere::Unknown("the daemon ends".to_owned()),
        }
    }

    /// Removes packs from the remote that nobody there or here needs and that are older than `age`, or says which these are.
    pub(crate) async fn collect(&self, age: Duration, dry_run: bool) -> Result<RemoteCollected> {
        let failed = |reason| Error::Remote { reason };
        let Some(remote) = &self.remote else { return Err(failed("the daemon has none".to_owned())) };
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let collected = if dry_run { remote.collectable(before).await } else { remote.collect(before).await };
        collected.map_err(|error| failed(with_causes(&error)))
    }

    /// How far a snapshot is on its way to the remote, and how much of it is not here. Blocks on file I/O.
    pub(crate) fn copy_of(&self, stored: &Stored) -> Option<RemoteCopy> {
        let remote = self.remote.as_ref()?;
        let upload = local(stored).and_then(|snapshot| remote.upload_of(&snapshot).map_err(|e| with_causes(&e)));
        let upload = upload.unwrap_or_else(|reason| UploadState::Failed { reason });
        Some(RemoteCopy { upload, not_here: self.absent(stored.packs()).1 })
    }

    /// Waits until nothing is to be done on the remote, and tells what failed.
    #[cfg(test)]
    pub(crate) async fn settled(&self) -> Vec<dormouse_store::remote::JobStatus> {
        self.remote.as_ref().unwrap().settled().await
    }

    /// The remote itself.
    #[cfg(test)]
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Nobody waits for packs any more.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Tells how a fetch goes until the daemon ends.
    async fn tell(&self, id: &SnapshotId, wanted: &[PackRef]) {
        let mut ending = self.ending.subscribe();
        while tokio::time::timeout(TELL, ending.wait_for(|ends| *ends)).await.is_err() {
            let (packs, bytes) = self.absent(wanted);
            tracing::info!(snapshot = %id, packs, %bytes, "packs are still to come from the remote");
        }
    }

    /// How many of these packs are not here, and how large they are.
    fn absent(&self, wanted: &[PackRef]) -> (usize, Bytes) {
        let absent = wanted.iter().filter(|pack| matches!(self.packs.len(&pack.id), Ok(None)));
        absent.fold((0, Bytes(0)), |(count, bytes), pack| (count + 1, Bytes(bytes.0.saturating_add(pack.len.0))))
    }
}

fn local(stored: &Stored) -> std::result::Result<LocalSnapshot, String> {
    LocalSnapshot::of(stored.dir.clone(), &stored.manifest).map_err(|e| e.to_string())
}

fn no_space(error: &RemoteError) -> Option<Error> {
    let RemoteError::Local(error) = error else { return None };
    match **error {
        StoreError::NoSpace { needed, available, .. } => Some(Error::NoSpace { needed, available }),
        _ => None,
    }
}

/// All snapshots of a state folder that can be read, and whether these are all.
fn published(folder: &StateFolder) -> (Vec<LocalSnapshot>, bool) {
    let (mut found, mut all_read) = (Vec::new(), true);
    let listed = std::fs::read_dir(folder.snapshots()).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = listed.unwrap_or_else(|_| {
        all_read = false;
        Vec::new()
    });
    for dir in entries.into_iter().map(|entry| entry.path()) {
        let id = dir.file_name().and_then(|name| name.to_str()?.parse::<SnapshotId>().ok());
        // What was half removed has no manifest any more.
        let Some(id) = id.filter(|_| dir.join(dormouse_image::manifest::FILE_NAME).exists()) else { continue };
        match Stored::open(dir, id.clone()).map_err(|e| e.to_string()).and_then(|stored| local(&stored)) {
            Ok(snapshot) => found.push(snapshot),
            Err(reason) => {
                tracing::warn!(snapshot = %id, reason, "a snapshot cannot be read: nothing is removed from the remote");
                all_read = false;
            }
        }
    }
    (found, all_read)
}

#[cfg(test)]
mod tests;
