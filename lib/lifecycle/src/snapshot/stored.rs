//! A published snapshot on disk.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use dormouse_image::manifest::{BaseDiskRef, DeviceStateRef, FileName, Manifest, MemoryRef, OverlayRef};
use dormouse_image::{Digest, Disk, DiskSlot, ImageRoot, PackRef};
use dormouse_vmm::Fingerprint;
use jiff::Timestamp;

use super::device_state::Packed;
use super::report::Report;
use crate::error::with_causes;
use crate::state::Machine;
use crate::{Error, Result, SnapshotId, TemplateName};

/// The index of a new memory image.
pub(super) const MEMORY: &str = "memory.idx";
pub(super) const DEVICE_STATE: &str = "device.state.zst";
pub(super) const OVERLAY: &str = "overlay.ext4";

/// A snapshot whose manifest was read and checked. What the manifest names is checked when it is used.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) dir: PathBuf,
    pub(crate) id: SnapshotId,
    pub(crate) manifest: Manifest,
    pub(crate) machine: Machine,
}

impl Stored {
    /// Reads the manifest in `dir`.
    pub(crate) fn open(dir: PathBuf, id: SnapshotId) -> Result<Self> {
        let unusable = |reason: String| Error::Snapshot { snapshot: id.clone(), reason };
        if !dir.exists() {
            return Err(Error::NoSnapshot(id));
        }
        let manifest = Manifest::read(&dir).map_err(|e| unusable(with_causes(&e)))?;
        if manifest.snapshot != id.as_str() {
            return Err(unusable(format!("its manifest is that of snapshot {:?}", manifest.snapshot)));
        }
        let machine = serde_json::from_value(manifest.machine.clone())
            .map_err(|e| unusable(format!("its manifest describes a machine that this version does not know: {e}")))?;
        Ok(Self { dir, id, manifest, machine })
    }

    /// Whether it has not been removed meanwhile.
    pub(super) fn exists(&self) -> bool {
        self.dir.join(dormouse_image::manifest::FILE_NAME).exists()
    }

    pub(crate) fn image_root(&self) -> ImageRoot {
        self.manifest.memory.root
    }

    pub(crate) fn memory_file(&self) -> PathBuf {
        self.dir.join(self.manifest.memory.file.as_str())
    }

    /// The packs that its memory image needs; none for one of version 1.
    pub(crate) fn packs(&self) -> &[PackRef] {
        &self.manifest.memory.packs
    }

    /// Removes what a compaction left that did not get to its end: indexes that the manifest does not name, and a half-written
    /// manifest. How many files that were.
    pub(crate) fn clear_leftovers(&self) -> usize {
        let named = self.manifest.memory.file.as_str();
        let leftover = |name: &str| {
            name == "manifest.json.new" || (name.starts_with("memory") && name.ends_with(".idx") && name != named)
        };
        let files = super::list_dir(&self.dir).unwrap_or_default();
        let left = files.into_iter().filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(leftover));
        left.filter(|path| fs::remove_file(path).is_ok()).count()
    }

    /// What the manifest says of the memory image.
    pub(crate) fn memory(&self) -> MemoryRef {
        self.manifest.memory.clone()
    }

    /// What the manifest says of the overlay disk.
    pub(crate) fn overlay(&self) -> OverlayRef {
        self.manifest.overlay.clone()
    }

    /// Size of the memory image's own file.
    pub(crate) fn index_len(&self) -> Bytes {
        self.manifest.memory.len
    }

    pub(crate) fn device_state_file(&self) -> PathBuf {
        self.dir.join(self.manifest.device_state.file.as_str())
    }

    pub(crate) fn device_state_len(&self) -> Bytes {
        self.manifest.device_state.len
    }

    /// How many pages the pause found to be so, by the report's name for it.
    pub(crate) fn pages(&self, name: &str) -> u64 {
        super::report::pages(&self.manifest.report, name)
    }

    /// The disks that its memory image may refer to.
    pub(super) fn disks(&self, artifacts: &Path) -> Result<OpenDisks> {
        let open = |path: PathBuf| {
            let file =
                File::open(&path).map_err(|e| self.unusable(format!("{} cannot be read: {e}", path.display())))?;
            Ok::<_, Error>((file, path))
        };
        Ok(OpenDisks { base: open(artifacts.join(&self.machine.base_disk))?, overlay: open(self.overlay_file())? })
    }

    pub(crate) fn overlay_file(&self) -> PathBuf {
        self.dir.join(OVERLAY)
    }

    /// The error for a snapshot that cannot be used.
    pub(crate) fn unusable(&self, reason: String) -> Error {
        Error::Snapshot { snapshot: self.id.clone(), reason }
    }

    /// The same, for what reading one of its files said.
    pub(super) fn damaged(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        self.unusable(with_causes(error))
    }

    /// Refuses a snapshot that was made by another VMM, or on another machine type, than this one offers.
    pub(super) fn check_fingerprint(&self, here: &Fingerprint) -> Result<()> {
        let there = Fingerprint::new(self.manifest.fingerprint.clone());
        match here.mismatch(&there) {
            None => Ok(()),
            Some(difference) => Err(self.unusable(format!("it needs another VMM: {difference}"))),
        }
    }

    /// Refuses a snapshot one of whose files has another length than it was published with.
    pub(super) fn check_files(&self) -> Result<()> {
        self.manifest.check_files(&self.dir).map_err(|e| self.damaged(&e))
    }

    pub(super) fn packed_device_state(&self) -> Packed {
        let state = &self.manifest.device_state;
        Packed { len: state.len.0, raw_len: state.raw_len.0, hash: state.blake3 }
    }

    /// What the memory image takes: its own file, and its packs, which others may need too.
    pub(super) fn memory_on_disk(&self) -> Bytes {
        let packs = self.packs().iter().map(|pack| pack.len.0);
        Bytes(packs.fold(allocated(&self.memory_file()).0, u64::saturating_add))
    }

    /// Bytes that the snapshot takes on disk: memory image, device state, overlay.
    pub(crate) fn on_disk(&self) -> Bytes {
        let files = [DEVICE_STATE, OVERLAY].map(|name| allocated(&self.dir.join(name)));
        Bytes(files.iter().fold(self.memory_on_disk().0, |sum, len| sum.saturating_add(len.0)))
    }
}

/// The disks of a snapshot.
pub(super) struct OpenDisks {
    base: (File, PathBuf),
    overlay: (File, PathBuf),
}

impl OpenDisks {
    pub(super) fn list(&self) -> [Disk<'_>; 2] {
        [(DiskSlot::Base, &self.base), (DiskSlot::Overlay, &self.overlay)].map(|(slot, (file, path))| Disk {
            slot,
            file,
            path,
        })
    }
}

/// Removes a snapshot's folder: the manifest first, so that a crash in between leaves no snapshot that looks whole.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    let failed = |path: &Path| Error::io(format!("remove {}", path.display()));
    let manifest = dir.join(dormouse_image::manifest::FILE_NAME);
    crate::state::remove_file(&manifest).map_err(failed(&manifest))?;
    fs::remove_dir_all(dir).map_err(failed(dir))
}

/// Bytes that a file takes on disk; 0 when it is not there.
pub(crate) fn allocated(file: &Path) -> Bytes {
    Bytes(fs::metadata(file).map_or(0, |m| m.blocks() * 512))
}

/// What is known of a snapshot before its files are written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: SnapshotId,
    pub(super) created: Timestamp,
    pub(super) template: TemplateName,
    pub(super) parent: Option<SnapshotId>,
    pub(super) machine: Machine,
    pub(super) fingerprint: Fingerprint,
    /// The read-only disk that the guest had.
    pub(super) base_disk: PathBuf,
}

impl Draft {
    /// The manifest of the finished files in `dir`.
    pub(super) fn finish(
        &self,
        (image, base_index, overlay_content): (&dormouse_image::Stored, Option<Digest>, Digest),
        state: &Packed,
        dir: &Path,
        report: &Report,
    ) -> Result<Manifest> {
        let json = |e: serde_json::Error| Error::io("write the manifest")(e.into());
        let name = |name: &str| {
            FileName::try_from(name).map_err(|e| Error::io("write the manifest")(std::io::Error::other(e)))
        };
        let len = |path: &Path| {
            let found = fs::metadata(path).map_err(Error::io(format!("look at {}", path.display())));
            found.map(|m| Bytes(m.len()))
        };
        let overlay = dir.join(OVERLAY);
        Ok(Manifest {
            snapshot: self.id.to_string(),
            created: self.created.to_string(),
            template: self.template.to_string(),
            parent: self.parent.as_ref().map(ToString::to_string),
            machine: serde_json::to_value(&self.machine).map_err(json)?,
            fingerprint: self.fingerprint.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            memory: MemoryRef {
                file: name(MEMORY)?,
                len: image.index_len,
                root: image.root,
                ram: Some(image.ram_digest),
                packs: image.packs.clone(),
            },
            device_state: DeviceStateRef {
                file: name(DEVICE_STATE)?,
                len: Bytes(state.len),
                raw_len: Bytes(state.raw_len),
                blake3: state.hash,
            },
            overlay: OverlayRef {
                file: name(OVERLAY)?,
                len: len(&overlay)?,
                allocated: allocated(&overlay),
                content: Some(overlay_content),
            },
            base_disk: BaseDiskRef {
                artifact: self.machine.base_disk.display().to_string(),
                len: len(&self.base_disk)?,
                index: base_index,
            },
            introspection: report.introspection(),
            report: report.figures(),
        })
    }
}
