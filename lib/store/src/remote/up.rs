//! Taking a snapshot to the remote, and away from it.

use std::fs::File;

use dormouse_image::Digest;
use dormouse_image::manifest::FileName;
use futures_util::stream::{self, TryStreamExt};
use object_store::PutMode;
use object_store::path::Path;

use super::big::Source;
use super::download::blocking;
use super::ledger::{Entry, Progress};
use super::objects::Put;
use super::record::{RemoteFile, RemoteSnapshot};
use super::snapshot::{LocalSnapshot, prepare};
use super::{RemoteError, Shared};
use crate::{PackId, SnapshotName, StoreError};

impl Shared {
    /// Whether all of a snapshot is on the remote, as far as is known here.
    pub(super) fn is_up(&self, snapshot: &LocalSnapshot) -> Result<bool, StoreError> {
        let Some(generation) = snapshot.generation()? else { return Ok(true) };
        let Some(entry) = self.ledger.snapshot(&snapshot.name) else { return Ok(false) };
        let all_there = match entry.state {
            Progress::Uploading => false,
            Progress::Uploaded => snapshot.packs.iter().all(|id| self.ledger.has_pack(id)),
            // Its record there names all of it. Taken up again it would pass for ours, and be removed there with what is here.
            Progress::Fetched => true,
        };
        Ok(all_there && entry.generation == generation)
    }

    /// Takes a snapshot to the remote: packs first, then its files, then the record that names them. Whatever is there
    /// already is not sent again, so it goes on where an earlier attempt ended. Ends early when it is not `wanted` any more;
    /// never within a request, because then nobody would know how that ends.
    pub(super) async fn take_up(
        &self,
        snapshot: &LocalSnapshot,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), RemoteError> {
        let removed = || RemoteError::Removed { snapshot: snapshot.name.to_string() };
        let go_on = || if wanted() { Ok(()) } else { Err(removed()) };
        let _pins = self.packs.pin(snapshot.packs.iter().copied());
        let opened = {
            let snapshot = snapshot.clone();
            blocking(move || snapshot.open()).await?.ok_or_else(removed)?
        };
        let generation = opened.generation;
        self.note(&snapshot.name, Entry { state: Progress::Uploading, generation }).await?;
        self.steps.reached("begun");
        stream::iter(snapshot.packs.iter().map(Ok))
            .try_for_each_concurrent(self.objects.limits.packs_at_once.max(1), |id| async move {
                go_on()?;
                self.take_pack_up(id).await
            })
            .await?;
        let mut files = Vec::new();
        for (name, file) in opened.files {
            go_on()?;
            files.push(self.take_file_up(snapshot, &generation, name, file).await?);
        }
        go_on()?;
        let record =
            RemoteSnapshot { snapshot: snapshot.name.clone(), generation, files, packs: snapshot.packs.clone() };
        let text = record.encode().map_err(|error| RemoteError::Config { reason: error.to_string() })?;
        self.objects.put(&self.keys.record(&snapshot.name), text.into(), PutMode::Overwrite).await?;
        self.steps.reached("record there");
        let current = self.keys.generation(&snapshot.name, &generation);
        let record = self.keys.record(&snapshot.name);
        self.clear(&snapshot.name, |key| key.prefix_matches(&current) || *key == record).await?;
        self.note(&snapshot.name, Entry { state: Progress::Uploaded, generation }).await?;
        self.steps.reached("noted");
        Ok(())
    }

    /// Takes a snapshot away from the remote, the record first. Its packs stay until the remote is collected.
    pub(super) async fn take_away(&self, name: &SnapshotName) -> Result<(), RemoteError> {
        self.objects.delete(&self.keys.record(name)).await?;
        self.steps.reached("record gone");
        self.clear(name, |_| false).await?;
        let (ledger, name) = (self.ledger.clone(), name.clone());
        blocking(move || ledger.remove_snapshot(&name)).await
    }

    async fn take_pack_up(&self, id: &PackId) -> Result<(), RemoteError> {
        if self.ledger.has_pack(id) {
            return Ok(());
        }
        let key = self.keys.pack(id);
        let (packs, wanted) = (self.packs.clone(), *id);
        // What is damaged here must not take the place of what may be whole elsewhere.
        let source = blocking(move || {
            packs.verify(&wanted)?;
            let file = packs.file(&wanted)?;
            let len = packs.len(&wanted)?.map_or(0, |len| len.0);
            Ok(Source { file: file.into(), len })
        })
        .await?;
        if self.objects.put_file(&key, &source, PutMode::Create).await? == Put::Existed {
            let there = self.objects.len(&key, &self.objects.limits.upload).await?;
            if there != Some(source.len) {
                // The name commits to every byte, so what is there is not the pack, and this is.
                self.objects.put_file(&key, &source, PutMode::Overwrite).await?;
            }
        }
        self.steps.reached("pack there");
        let (ledger, id) = (self.ledger.clone(), *id);
        blocking(move || ledger.add_pack(&id)).await?;
        self.steps.reached("pack noted");
        Ok(())
    }

    async fn take_file_up(
        &self,
        snapshot: &LocalSnapshot,
        generation: &Digest,
        name: FileName,
        file: File,
    ) -> Result<RemoteFile, RemoteError> {
        let packs = self.packs.clone();
        let prepared = blocking(move || prepare(&packs, name, file)).await?;
        let key = self.keys.file(&snapshot.name, generation, prepared.file.name.as_str());
        self.objects.put_file(&key, &prepared.source, PutMode::Overwrite).await?;
        self.steps.reached("file there");
        Ok(prepared.file)
    }

    /// Removes those of a snapshot's objects that need not stay.
    async fn clear(&self, name: &SnapshotName, stays: impl Fn(&Path) -> bool) -> Result<(), RemoteError> {
        for object in self.objects.list(&self.keys.snapshot(name)).await? {
            if !stays(&object.location) {
                self.objects.delete(&object.location).await?;
                self.steps.reached("object gone");
            }
        }
        Ok(())
    }

    async fn note(&self, name: &SnapshotName, entry: Entry) -> Result<(), RemoteError> {
        let (ledger, name) = (self.ledger.clone(), name.clone());
        blocking(move || ledger.set_snapshot(&name, entry)).await
    }
}
