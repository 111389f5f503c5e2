//! The build: each part is found in the store or made and put there.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::{Key, KeyHasher};
use crate::error::AtPath;
use crate::kernel::ModuleList;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::{BuildError, Progress, Recipe, ext4, initramfs, kernel, rootfs};

const BASE: &str = "base.ext4";
const OVERLAY: &str = "overlay.ext4";
const INITRAMFS: &str = "initramfs";
/// These change when the way a part is made changes.
const BASE_VERSION: &str = "base disk 2";
const OVERLAY_VERSION: &str = "overlay disk 1";
const INITRAMFS_VERSION: &str = "initramfs 1";

/// The files that a template VM boots from. They belong to the store: read them, copy them, never write to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// The kernel, unmodified, as the distribution or the recipe gave it (a bzImage).
    pub kernel: PathBuf,
    /// What `uname -r` says in the guest.
    pub kernel_release: String,
    /// A cpio archive with the agent as `/init`, `/dormouse/modules.list` and `/dormouse/modules/NAME.ko`.
    pub initramfs: PathBuf,
    /// ext4 without a journal, to be attached and mounted read-only (`ro,noload`). Beside the recipe's files it has the kernel's
    /// modules for volumes, in `/usr/lib/dormouse/volumes`.
    pub base_disk: PathBuf,
    /// An empty, sparse ext4 of the recipe's size without a journal, to be copied for each VM.
    pub overlay_disk: PathBuf,
    /// Changes whenever one of the files could.
    pub id: ArtifactId,
}

/// The hash of everything that a template's files were made from: two builds with equal ids give the same files from
/// the same store, and files of equal content and behaviour from different ones (times inside the base disk differ).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArtifactId(String);

impl ArtifactId {
    /// 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the files for a recipe, or finds them in the store.
///
/// `agent` is the static binary that becomes `/init`. `store` keeps finished parts and apt's package lists between
/// builds; `scratch` is emptied before and after, and must be on the same filesystem as `store`. Both are created
/// when missing. Blocks for a minute or more when much has to be made; needs root to make a base disk.
///
/// # Errors
/// See [`BuildError`]. The store then holds the parts that were finished, each complete, and no process of the build
/// is left running.
pub fn build(
    recipe: &Recipe,
    agent: &Path,
    store: &Path,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Artifacts, BuildError> {
    recipe.check()?;
    let builder = Builder { store: Store::open(store)?, scratch: Scratch::take(scratch)?, progress };
    let (kernel, kernel_key) = builder.kernel(recipe)?;
    let (initramfs, initramfs_key) = builder.initramfs(agent, &kernel, &kernel_key)?;
    let (base, base_key) = builder.base(recipe, &kernel, &kernel_key)?;
    let (overlay, overlay_key) = builder.overlay(recipe.disk)?;
    let mut id = KeyHasher::new("template artifacts 1");
    [kernel_key, initramfs_key, base_key, overlay_key].iter().for_each(|key| id.key(key));
    let release = kernel.join(kernel::RELEASE);
    Ok(Artifacts {
        kernel: kernel.join(kernel::VMLINUZ),
        kernel_release: fs::read_to_string(&release).at(&release)?,
        initramfs: initramfs.join(INITRAMFS),
        base_disk: base.join(BASE),
        overlay_disk: overlay.join(OVERLAY),
        id: ArtifactId(id.finish().to_string()),
    })
}

struct Builder<'a> {
    store: Store,
    scratch: Scratch,
    progress: &'a dyn Progress,
}

impl Builder<'_> {
    fn kernel(&self, recipe: &Recipe) -> Result<(PathBuf, Key), BuildError> {
        let (resolved, key) = kernel::resolve(&recipe.kernel, &self.store, &self.scratch, self.progress)?;
        self.part("kernel", key, || kernel::stage(&resolved, &self.scratch, self.progress))
    }

    fn initramfs(&self, agent: &Path, kernel: &Path, kernel_key: &Key) -> Result<(PathBuf, Key), BuildError> {
        let mut hasher = KeyHasher::new(INITRAMFS_VERSION);
        hasher.key(kernel_key);
        hasher.file(agent, self.progress)?;
        self.part("initramfs", hasher.finish(), || {
            self.progress.step("initramfs: packing the agent and modules");
            let staged = self.scratch.folder("initramfs")?;
            initramfs::write(agent, kernel, &staged.join(INITRAMFS))?;
            Ok(staged)
        })
    }

    fn base(&self, recipe: &Recipe, kernel: &Path, kernel_key: &Key) -> Result<(PathBuf, Key), BuildError> {
        let (resolved, rootfs_key) = rootfs::resolve(&recipe.rootfs, &self.store, &self.scratch, self.progress)?;
        let mut hasher = KeyHasher::new(BASE_VERSION);
        hasher.key(&rootfs_key);
        hasher.key(kernel_key);
        let key = hasher.finish();
        self.part("base disk", key, || {
            let root = rootfs::stage(&resolved, &self.scratch, self.progress)?;
            rootfs::add_modules(&root, &ModuleList::read(&kernel.join(kernel::VOLUMES))?)?;
            self.progress.step("base disk: writing the filesystem");
            let staged = self.scratch.folder("base")?;
            ext4::make_full(&root, &staged.join(BASE), &key, &self.scratch.folder("mke2fs-base")?, self.progress)?;
            Ok(staged)
        })
    }

    fn overlay(&self, size: Bytes) -> Result<(PathBuf, Key), BuildError> {
        let mut hasher = KeyHasher::new(OVERLAY_VERSION);
        hasher.number(size.0);
        let key = hasher.finish();
        self.part("overlay disk", key, || {
            self.progress.step("overlay disk: making an empty one");
            let staged = self.scratch.folder("overlay")?;
            let work = self.scratch.folder("mke2fs-overlay")?;
            ext4::make_empty(&staged.join(OVERLAY), size, &key, &work, self.progress)?;
            Ok(staged)
        })
    }

    /// Finds a part or makes it. The part's name with `-` for blanks is its folder in the store.
    fn part(
        &self,
        name: &str,
        key: Key,
        make: impl FnOnce() -> Result<PathBuf, BuildError>,
    ) -> Result<(PathBuf, Key), BuildError> {
        self.progress.go_on()?;
        let kind = name.replace(' ', "-");
        if let Some(place) = self.store.find(&kind, &key) {
            self.progress.step(&format!("{name}: unchanged"));
            return Ok((place, key));
        }
        let staged = make()?;
        self.progress.go_on()?;
        Ok((self.store.publish(&staged, &kind, &key)?, key))
    }
}
