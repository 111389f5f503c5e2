//! Turning RAM into a memory image.

use std::fs::File;
use std::path::Path;

use dormouse_guest_mem::{Bytes, PageClass, PageIndex, RamLayout, RamSource};
use dormouse_image::{
    Capture, Digest, DiskContent, DiskIndex, DiskSlot, PageCounts, Parent, StoreOptions, WriteError, account,
};
use dormouse_introspect::Survey;
use dormouse_store::{Pins, StoreError};
use dormouse_vmm::PausedRam;

use crate::host::Shared;
use crate::snapshot::parent::ParentImage;
use crate::snapshot::report::Steps;
use crate::snapshot::stored::{MEMORY, OVERLAY};
use crate::{Error, Result};

/// What an image is made of.
pub(super) struct Memory<'a> {
    pub(super) ram: &'a dyn PausedRam,
    pub(super) layout: &'a RamLayout,
    pub(super) survey: Option<&'a Survey>,
    pub(super) parent: Option<&'a ParentImage>,
    /// The base disk: its path below the artifacts, and where it is.
    pub(super) base: (&'a Path, &'a Path),
    /// Holds the overlay disk, and gets the index.
    pub(super) dir: &'a Path,
}

/// A written image. Its new pack is durable, and stays for as long as this is held.
pub(super) struct Written {
    pub(super) stored: dormouse_image::Stored,
    /// Size of the new pack, if there is one.
    pub(super) new_pack: Bytes,
    pub(super) counts: PageCounts,
    /// Identity of the base disk's index, if pages were looked up there.
    pub(super) base_index: Option<Digest>,
    /// Identity of the overlay disk's content.
    pub(super) overlay_content: Digest,
    pub(super) _pack: Option<Pins>,
}

impl Memory<'_> {
    /// Accounts every page and stores what is nowhere yet.
    pub(super) fn write(&self, shared: &Shared, steps: &mut Steps) -> Result<Written> {
        let threads = shared.limits.image_threads;
        let (artifact, base_path) = self.base;
        let base_index = shared.base_indexes.of(artifact, base_path);
        let base = base_index.as_ref().and_then(|index| Some((File::open(base_path).ok()?, index)));
        let overlay_path = self.dir.join(OVERLAY);
        let overlay = File::open(&overlay_path).map_err(Error::io(format!("open {}", overlay_path.display())))?;
        let (overlay_index, overlay_content) = DiskIndex::build_with_content(&overlay, threads, &())
            .map_err(|e| Error::storage("index", &overlay_path, &e))?;
        let mut disks = vec![DiskContent { slot: DiskSlot::Overlay, file: &overlay, index: &overlay_index }];
        if let Some((file, index)) = &base {
            disks.push(DiskContent { slot: DiskSlot::Base, file, index });
        }
        steps.done("index disk");

        let class_of = |page: PageIndex| self.survey.map_or(PageClass::Unknown, |s| s.classes.get(page));
        let restored = self.ram.restored();
        let parent = self.parent.zip(restored).map(|(parent, restored)| Parent {
            image: &parent.image,
            written: restored.written,
            ram: restored.file,
        });
        let ram: &dyn RamSource = self.ram;
        let free = self.survey.map(|s| &s.free);
        let capture = Capture { ram, layout: self.layout, free, class_of: &class_of, disks: &disks, parent };
        let index_path = self.dir.join(MEMORY);
        let failed = |error| write_error(&index_path, error);
        let accounting = account(&capture, threads, &()).map_err(failed)?;
        steps.done("account");

        let packs = shared.packs.packs();
        let staged = packs.stage().map_err(store_error)?;
        let index = File::options().read(true).write(true).create_new(true).open(&index_path);
        let index = index.map_err(|e| Error::storage("create", &index_path, &e))?;
        let options = StoreOptions { threads, ..StoreOptions::default() };
        let mut stored = accounting.store(ram, staged.file(), &index, options, &()).map_err(failed)?;
        steps.done("compress");
        let new_pack = stored.pack.as_ref().map(|pack| pack.named().len).unwrap_or_default();
        let pack = stored.pack.take().map(|sealed| packs.adopt(staged, &sealed)).transpose().map_err(store_error)?;
        steps.done("keep pack");
        let base_index = base_index.map(|index| index.digest());
        Ok(Written { stored, new_pack, counts: accounting.counts(), base_index, overlay_content, _pack: pack })
    }
}

fn write_error(path: &Path, error: WriteError) -> Error {
    match error {
        WriteError::NoSpace { needed, available } => Error::NoSpace { needed, available },
        other => Error::storage("write", path, &other),
    }
}

fn store_error(error: StoreError) -> Error {
    match error {
        StoreError::NoSpace { needed, available, .. } => Error::NoSpace { needed, available },
        other => Error::Io { what: "keep a pack".to_owned(), source: std::io::Error::other(other) },
    }
}
