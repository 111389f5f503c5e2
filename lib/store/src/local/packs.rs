//! Taking packs in, giving them out, listing them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use dormouse_guest_mem::Bytes;
use dormouse_image::{PackSource, PackUnavailable, SealedPack};

use super::pins::PinCounts;
use super::{Pins, StagedPack};
use crate::gc::References;
use crate::{CheckError, PackCheck, PackId, SnapshotName, Steps, StoreError, durable, room};

const STAGING: &str = "staging";
const SUFFIX: &str = ".pack";

/// The folder of packs. Clones work on the same one.
#[derive(Clone, Debug)]
pub struct Packs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    check: Arc<dyn PackCheck>,
    steps: Steps,
    staged: AtomicU64,
    state: Mutex<State>,
}

/// What decides whether a pack may go. Whoever removes one holds the lock while looking and removing, whoever wants to
/// keep one pins it before looking whether it is there.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pins: PinCounts,
    /// None until all manifests have been read.
    pub(super) references: Option<References>,
    /// What was said since somebody began to read the manifests anew.
    pub(super) said: Option<Vec<Said>>,
    /// Numbers of the packs that are being written.
    pub(super) writing: BTreeSet<u64>,
}

/// What a snapshot needs from now on; nothing if it is gone.
pub(super) type Said = (SnapshotName, Option<BTreeSet<PackId>>);

/// A pack in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// Which one.
    pub id: PackId,
    /// Size of its file.
    pub len: Bytes,
    /// When it was last opened, or taken in.
    pub last_used: SystemTime,
}

impl Packs {
    /// Opens the folder `root`, or makes it, and removes what a former process left half-written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(root: &Path, check: Arc<dyn PackCheck>) -> Result<Self, StoreError> {
        Self::open_with(root, check, Steps::default())
    }

    /// As [`open`](Self::open), telling `steps` how far it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_with(root: &Path, check: Arc<dyn PackCheck>, steps: Steps) -> Result<Self, StoreError> {
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io(&staging, "emptied")(error));
            }
            _ => {}
        }
        durable::make_dir(root)?;
        durable::make_dir(&staging)?;
        let root = root.to_owned();
        Ok(Self { inner: Arc::new(Inner { root, check, steps, staged: AtomicU64::new(0), state: Mutex::default() }) })
    }

    /// An empty file to write a pack into.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Io`].
    pub fn stage(&self) -> Result<StagedPack, StoreError> {
        let number = self.inner.staged.fetch_add(1, Ordering::Relaxed);
        // Before the file is there, so that nobody takes it for a leftover.
        self.state().writing.insert(number);
        StagedPack::create(self.clone(), number)
    }

    /// Where the pack with this number is while it is written.
    pub(super) fn part(&self, number: u64) -> PathBuf {
        self.inner.root.join(STAGING).join(format!("{number}.part"))
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.inner.root.join(STAGING)
    }

    /// Takes a written pack in under its name, after reading all of it. It is pinned before anybody could remove it again, and
    /// durable when this returns. A pack that is there already is replaced: the name commits to every byte, so this can only
    /// mend it.
    ///
    /// # Errors
    /// [`StoreError`]; the staged file is then gone, and a pack of that name that was there before still is.
    pub fn put(&self, staged: StagedPack, id: &PackId) -> Result<Pins, StoreError> {
        self.keep(staged, id, |file| self.inner.check.check(id, file))
    }

    /// As [`put`](Self::put), for a pack that this process has just written into the staged file: its frames were hashed then, and
    /// are not read again.
    ///
    /// # Errors
    /// As for `put`; also when the staged file is not the one that was written.
    pub fn adopt(&self, staged: StagedPack, sealed: &SealedPack) -> Result<Pins, StoreError> {
        self.keep(staged, &sealed.named().id, |file| sealed.check(file).map_err(CheckError::from))
    }

    fn keep(
        &self,
        staged: StagedPack,
        id: &PackId,
        check: impl FnOnce(&File) -> Result<(), CheckError>,
    ) -> Result<Pins, StoreError> {
        let steps = &self.inner.steps;
        steps.reached("written");
        check(staged.file()).map_err(|fault| refused(id, staged.path(), fault))?;
        steps.reached("checked");
        let len = staged.file().metadata().map_or(0, |meta| meta.len());
        let synced = staged
            .file()
            .set_permissions(Permissions::from_mode(0o400))
            .and_then(|()| staged.file().sync_all())
            .map_err(|error| room::failed(staged.path(), "made durable", len, error));
        synced?;
        steps.reached("synced");
        let pins = self.pin([*id]);
        let folder = self.folder_of(id);
        durable::make_dir(&folder)?;
        steps.reached("folder made");
        staged.publish(&self.path(id))?;
        steps.reached("published");
        durable::sync_dir(&folder)?;
        steps.reached("durable");
        Ok(pins)
    }

    /// Opens a pack for reading. The file stays readable even if the pack is removed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn open_pack(&self, id: &PackId) -> Result<File, StoreError> {
        let file = self.file(id)?;
        // Only says which packs were not used for long. Nothing depends on it.
        let _ = file.set_modified(SystemTime::now());
        Ok(file)
    }

    /// Size of a pack, or None when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn len(&self, id: &PackId) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(Bytes(meta.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, "examined")(error)),
        }
    }

    /// Reads a pack and compares it with its name.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn verify(&self, id: &PackId) -> Result<(), StoreError> {
        self.check(id, &self.file(id)?, &self.path(id))
    }

    /// All packs, by id. Files that are no packs are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<PackInfo>, StoreError> {
        let mut packs = Vec::new();
        for folder in entries(&self.inner.root)? {
            if !folder.file_type().is_ok_and(|kind| kind.is_dir()) || folder.file_name() == STAGING {
                continue;
            }
            for entry in entries(&folder.path())? {
                let Some(id) = id_of(&entry.file_name()) else { continue };
                if entry.path() != self.path(&id) {
                    continue;
                }
                match entry.metadata() {
                    Ok(meta) if meta.is_file() => {
                        let last_used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                        packs.push(PackInfo { id, len: Bytes(meta.len()), last_used });
                    }
                    Ok(_) => {}
                    // Removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::io(&entry.path(), "examined")(error)),
                }
            }
        }
        packs.sort_by_key(|pack| pack.id);
        Ok(packs)
    }

    /// Keeps packs from being removed or evicted. They need not be there yet.
    pub fn pin(&self, ids: impl IntoIterator<Item = PackId>) -> Pins {
        Pins::new(self.clone(), ids.into_iter().collect())
    }

    /// Whether somebody has pinned a pack.
    #[must_use]
    pub fn is_pinned(&self, id: &PackId) -> bool {
        self.state().pins.has(id)
    }

    /// Where the folder is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The file of a pack. Opening it so is not using it.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn file(&self, id: &PackId) -> Result<File, StoreError> {
        let path = self.path(id);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { id: *id }),
            other => other.map_err(StoreError::io(&path, "opened")),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn steps(&self) -> &Steps {
        &self.inner.steps
    }

    pub(super) fn path(&self, id: &PackId) -> PathBuf {
        self.folder_of(id).join(id.file_name())
    }

    pub(super) fn folder_of(&self, id: &PackId) -> PathBuf {
        let [first, ..] = id.0.0;
        self.inner.root.join(format!("{first:02x}"))
    }

    fn check(&self, id: &PackId, file: &File, path: &Path) -> Result<(), StoreError> {
        self.inner.check.check(id, file).map_err(|fault| refused(id, path, fault))
    }
}

fn refused(id: &PackId, path: &Path, fault: CheckError) -> StoreError {
    match fault {
        CheckError::Unreadable(source) => StoreError::io(path, "read")(source),
        source @ CheckError::Damaged(_) => StoreError::Damaged { id: *id, path: path.to_owned(), source },
    }
}

impl PackSource for Packs {
    fn open(&self, id: &PackId) -> Result<File, PackUnavailable> {
        self.open_pack(id).map_err(|error| PackUnavailable { pack: *id, source: error.into() })
    }
}

pub(super) fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(StoreError::io(dir, "listed"))
}

fn id_of(name: &OsStr) -> Option<PackId> {
    name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}
