//! Getting packs and snapshots from the remote.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::download::{Target, blocking};
use super::ledger::{Entry, Progress};
use super::record::{self, Encoding, RemoteFile, RemoteSnapshot};
use super::snapshot::digest;
use super::{RemoteError, Shared, sparse};
use crate::{PackId, SnapshotName, StagedPack, StoreError, room};

/// What comes down damaged is asked for once more: it may have been damaged on the way.
const TRIES: u32 = 2;

impl Shared {
    /// Gets a pack that is not in the folder, and checks it before anybody can see it. The caller has pinned it.
    pub(super) async fn fetch_pack(&self, id: PackId) -> Result<(), RemoteError> {
        let key = self.keys.pack(&id);
        let limits = &self.objects.limits;
        let mut tries = 0;
        loop {
            tries += 1;
            let len = self.objects.len(&key, &limits.fetch).await?.ok_or_else(|| self.absent(&key))?;
            let packs = self.packs.clone();
            let (staged, target) = blocking(move || stage(packs.stage()?)).await?;
            let got = self.objects.get_file(&key, len, &target).await;
            let packs = self.packs.clone();
            let put = match got {
                Ok(()) => blocking(move || packs.put(staged, &id).map(drop)).await,
                Err(error) => Err(error),
            };
            let error = match put {
                Ok(()) => break,
                Err(RemoteError::Local(error)) => match &*error {
                    StoreError::Damaged { source, .. } => self.objects.damaged(&key, source.to_string()),
                    _ => return Err(RemoteError::Local(error)),
                },
                Err(error) => error,
            };
            if tries == TRIES || !matches!(error, RemoteError::Damaged { .. }) {
                return Err(error);
            }
        }
        let ledger = self.ledger.clone();
        blocking(move || ledger.add_pack(&id)).await
    }

    /// What the remote says a snapshot consists of.
    pub(super) async fn describe(&self, name: &SnapshotName) -> Result<RemoteSnapshot, RemoteError> {
        let key = self.keys.record(name);
        let mut tries = 0;
        loop {
            tries += 1;
            let bytes = self.objects.get(&key, record::MAX_LEN).await?;
            match RemoteSnapshot::decode(&bytes, name) {
                Ok(record) => return Ok(record),
                Err(reason) if tries == TRIES => return Err(self.objects.damaged(&key, reason)),
                Err(_) => {}
            }
        }
    }

    /// Gets the files of a snapshot into the empty folder `dir`, the manifest last. Nothing is made durable.
    pub(super) async fn fetch_files(&self, snapshot: &RemoteSnapshot, dir: &FilePath) -> Result<(), RemoteError> {
        for file in &snapshot.files {
            let mut tries = 0;
            loop {
                tries += 1;
                match self.fetch_file(snapshot, file, &dir.join(file.name.as_str())).await {
                    Err(RemoteError::Damaged { .. }) if tries < TRIES => {}
                    other => break other?,
                }
            }
        }
        let entry = Entry { state: Progress::Fetched, generation: snapshot.generation };
        let (ledger, name) = (self.ledger.clone(), snapshot.snapshot.clone());
        // What went up from here stays ours.
        blocking(move || ledger.snapshot(&name).map_or_else(|| ledger.set_snapshot(&name, entry), |_| Ok(()))).await
    }

    async fn fetch_file(
        &self,
        snapshot: &RemoteSnapshot,
        file: &RemoteFile,
        path: &FilePath,
    ) -> Result<(), RemoteError> {
        let key = self.keys.file(&snapshot.snapshot, &snapshot.generation, file.name.as_str());
        let target = {
            let path = path.to_owned();
            blocking(move || create(&path)).await?
        };
        // Holes are brought back from a file of its own.
        let (_spool, object) = match file.encoding {
            Encoding::Plain => (None, target.clone()),
            Encoding::Sparse => {
                let packs = self.packs.clone();
                let (spool, object) = blocking(move || stage(packs.stage()?)).await?;
                (Some(spool), object)
            }
        };
        self.objects.get_file(&key, file.stored.0, &object).await?;
        let file = file.clone();
        let finished = blocking(move || finish(&file, &object, &target)).await?;
        finished.map_err(|reason| self.objects.damaged(&key, reason))
    }

    fn absent(&self, key: &object_store::path::Path) -> RemoteError {
        RemoteError::Absent { key: key.to_string(), remote: self.objects.shown.to_string() }
    }
}

fn stage(staged: StagedPack) -> Result<(StagedPack, Target), StoreError> {
    let file = staged.file().try_clone().map_err(StoreError::io(staged.path(), "opened"))?;
    let target = Target { file: Arc::new(file), path: staged.path().into() };
    Ok((staged, target))
}

/// An empty file, for its owner only.
fn create(path: &FilePath) -> Result<Target, StoreError> {
    let options = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = options.map_err(|error| room::failed(path, "created", 4096, error))?;
    Ok(Target { file: Arc::new(file), path: path.into() })
}

/// Checks what was fetched, and makes it the file that went up. On failure, what is wrong with the object.
fn finish(record: &RemoteFile, object: &Target, target: &Target) -> Result<Result<(), String>, StoreError> {
    let io = |doing| StoreError::io(&target.path, doing);
    let mut file = object.file.try_clone().map_err(io("opened"))?;
    let found = digest(&mut file).map_err(StoreError::io(&object.path, "read"))?;
    if found != record.blake3 {
        return Ok(Err(format!("it hashes to {found} instead of {}", record.blake3)));
    }
    if record.encoding == Encoding::Plain {
        return Ok(if record.len == record.stored { Ok(()) } else { Err("its record contradicts itself".into()) });
    }
    file.rewind().map_err(StoreError::io(&object.path, "read"))?;
    match sparse::decode(io::BufReader::new(file), &target.file, record.len.0) {
        Ok(()) => Ok(Ok(())),
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Err(room::failed(&target.path, "written", record.len.0, error))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}
