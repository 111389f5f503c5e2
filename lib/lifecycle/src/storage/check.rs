//! Checking every byte of one snapshot.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dormouse_image::manifest::{FILE_NAME, Manifest};
use dormouse_image::{Disk, DiskIndex, DiskSlot, Image, PackId, PackSource, PackUnavailable, Progress, WriteError};
use dormouse_store::Packs;

use super::ObjectKind;
use super::findings::{Faults, Object};
use super::remote::Asking;
use crate::compaction::Readers;
use crate::error::with_causes;
use crate::snapshot::{Stored, check_device_state};
use crate::state::StateFolder;
use crate::{Error, Result, SnapshotId};

/// What a check reads with.
pub(super) struct Reader<'a> {
    pub(super) folder: &'a StateFolder,
    pub(super) packs: &'a Packs,
    pub(super) readers: &'a Readers,
    pub(super) remote: &'a Asking<'a>,
    pub(super) threads: usize,
}

/// What was found of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) faults: Faults,
    /// Packs were not read because only the remote has them.
    pub(super) unread: bool,
}

/// Packs as they are found: to look at one is not to use it.
struct Unused<'a>(&'a Packs);

impl PackSource for Unused<'_> {
    fn open(&self, id: &PackId) -> std::result::Result<File, PackUnavailable> {
        self.0.file(id).map_err(|source| PackUnavailable { pack: *id, source: source.into() })
    }
}

impl Reader<'_> {
    /// What is wrong with the snapshot `id`. `None` when it is not there any more.
    pub(super) fn check(&self, id: &SnapshotId, progress: &dyn Progress) -> Result<Option<Checked>> {
        let _held = self.readers.hold(id);
        loop {
            let mut faults = Faults::default();
            let found = |faults, unread| Ok(Some(Checked { faults, unread }));
            let dir = self.folder.snapshot(id);
            let stored = match self.manifest(id, &dir, &mut faults) {
                Some(stored) => stored,
                None if faults.is_empty() || !dir.exists() => return Ok(None),
                None => return found(faults, false),
            };
            // Before they are looked for: from here on nobody removes them.
            let _pins = self.packs.pin(stored.packs().iter().map(|pack| pack.id));
            let away = self.remote.look(stored.packs(), self.packs, &mut faults);
            self.parts(&stored, &away.unread, &mut faults, progress)?;
            if faults.is_empty() {
                return found(faults, !away.unread.is_empty());
            }
            // It may have been removed, or compacted, while it was read; then nothing was found out.
            match Manifest::read(&dir) {
                Ok(now) if now.memory == stored.memory() => return found(faults, !away.unread.is_empty()),
                Ok(_) => {}
                Err(_) if !dir.join(FILE_NAME).exists() => return Ok(None),
                Err(_) => return found(faults, false),
            }
        }
    }

    fn manifest(&self, id: &SnapshotId, dir: &Path, faults: &mut Faults) -> Option<Stored> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return None;
        }
        match Stored::open(dir.to_owned(), id.clone()) {
            Ok(stored) => Some(stored),
            Err(error) => {
                let reason = match error {
                    Error::Snapshot { reason, .. } => reason,
                    other => other.to_string(),
                };
                faults.add(Object::new(ObjectKind::Manifest, path), reason);
                None
            }
        }
    }

    /// Checks all but the packs that are `unread`.
    fn parts(&self, stored: &Stored, unread: &[PackId], faults: &mut Faults, progress: &dyn Progress) -> Result<()> {
        let state = stored.device_state_file();
        if let Err(error) = check_device_state(stored) {
            faults.add(Object::new(ObjectKind::DeviceState, state), error.to_string());
        }
        let overlay = self.overlay(stored, faults, progress)?;
        let base_path = self.folder.artifacts().join(&stored.machine.base_disk);
        let base = match File::open(&base_path) {
            Ok(file) => Some(file),
            Err(error) => {
                let reason = format!("it cannot be read: {error}");
                faults.add(Object::new(ObjectKind::BaseDisk, base_path.clone()), reason);
                None
            }
        };
        let index = stored.memory_file();
        let image = match Image::open(&index, Some(&stored.image_root())) {
            Ok(image) => image,
            Err(error) => {
                faults.read(&error, self.packs.root());
                return Ok(());
            }
        };
        let overlay_path = stored.overlay_file();
        let given = [(DiskSlot::Base, &base, &base_path), (DiskSlot::Overlay, &overlay, &overlay_path)];
        let disks: Vec<_> = given
            .into_iter()
            .filter_map(|(slot, file, path)| Some(Disk { slot, file: file.as_ref()?, path: path.as_path() }))
            .collect();
        self.ram((&image, &disks), unread, faults, progress)
    }

    fn ram(
        &self,
        (image, disks): (&Image, &[Disk<'_>]),
        unread: &[PackId],
        faults: &mut Faults,
        progress: &dyn Progress,
    ) -> Result<()> {
        let told = Mutex::new(faults);
        let tell = |error: dormouse_image::ReadError| match &error {
            // A disk that is not there was told of already, as itself.
            dormouse_image::ReadError::DiskMissing { .. } => {}
            dormouse_image::ReadError::Pack(gone) if unread.contains(&gone.pack) => {}
            error => told.lock().unwrap_or_else(PoisonError::into_inner).read(error, self.packs.root()),
        };
        let checked = image.find_faults(&Unused(self.packs), disks, self.threads, &tell, progress);
        checked.map_err(|error| match error {
            dormouse_image::ReadError::Cancelled { .. } => Error::Cancelled,
            other => Error::io("check a memory image")(std::io::Error::other(other)),
        })
    }

    /// The overlay disk, if it can be read. Its content is compared as a whole where the manifest knows it, and as far as the
    /// memory image refers to it in any case.
    fn overlay(&self, stored: &Stored, faults: &mut Faults, progress: &dyn Progress) -> Result<Option<File>> {
        let path = stored.overlay_file();
        let expected = stored.overlay();
        let wrong = |reason: String, faults: &mut Faults| {
            faults.add(Object::new(ObjectKind::Overlay, path.clone()), reason);
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                wrong(format!("it cannot be read: {error}"), faults);
                return Ok(None);
            }
        };
        let len = file.metadata().map_or(0, |meta| meta.len());
        if len != expected.len.0 {
            wrong(format!("it has {len} bytes, not {}", expected.len.0), faults);
        } else if let Some(content) = expected.content {
            match DiskIndex::build_with_content(&file, self.threads, progress) {
                Ok((_, found)) if found == content => {}
                Ok(_) => wrong("it was changed since the snapshot was taken".to_owned(), faults),
                Err(WriteError::Cancelled) => return Err(Error::Cancelled),
                Err(error) => wrong(with_causes(&error), faults),
            }
        }
        Ok(Some(file))
    }
}
