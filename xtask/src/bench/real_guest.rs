//! The RAM of a real paused guest: the template that the real-VM scenarios built.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dormouse_guest_mem::{RamLayout, RamSource};
use dormouse_image::manifest::Manifest;
use dormouse_image::{Disk, DiskSlot, Image, PackId, PackSource, PackUnavailable};

/// An unpacked RAM file of a real guest. Pages that were left out as free are holes; the page structures are there.
pub(super) struct RealGuest {
    file: File,
    pub(super) layout: RamLayout,
    pub(super) free_pages: u32,
}

/// Unpacks the memory image of a template of the scenarios' state folder.
pub(super) fn load() -> anyhow::Result<RealGuest> {
    let state = crate::target_dir().join("vm-tests/state");
    let (snapshot, manifest) = a_snapshot(&state.join("snapshots"))?;
    let index = snapshot.join(manifest.memory.file.as_str());
    let image = Image::open(&index, None).with_context(|| format!("open {}", index.display()))?;
    let open = |path: PathBuf| Ok::<_, anyhow::Error>((File::open(&path).context(path.display().to_string())?, path));
    let base = open(state.join("artifacts").join(&manifest.base_disk.artifact))?;
    let overlay = open(snapshot.join(manifest.overlay.file.as_str()))?;
    let disks = [(DiskSlot::Base, &base), (DiskSlot::Overlay, &overlay)];
    let disks = disks.map(|(slot, (file, path))| Disk { slot, file, path });
    let file = tempfile::tempfile_in(crate::target_dir())?;
    image.materialise(&StatePacks(state.join("packs")), &disks, &file, 2, &())?;
    Ok(RealGuest { file, layout: image.layout().clone(), free_pages: image.summary().pages.free })
}

/// The packs of a state folder that no daemon works on.
struct StatePacks(PathBuf);

impl PackSource for StatePacks {
    fn open(&self, id: &PackId) -> Result<File, PackUnavailable> {
        let name = id.file_name();
        let path = self.0.join(name.get(..2).unwrap_or_default()).join(&name);
        File::open(path).map_err(|source| PackUnavailable { pack: *id, source: source.into() })
    }
}

fn a_snapshot(snapshots: &Path) -> anyhow::Result<(PathBuf, Manifest)> {
    let hint = "run ./test once: its scenarios build the template that is measured here";
    let listed = std::fs::read_dir(snapshots).with_context(|| format!("{}: {hint}", snapshots.display()))?;
    let found = listed.flatten().find_map(|entry| Some((entry.path(), Manifest::read(&entry.path()).ok()?)));
    match found {
        Some(found) => Ok(found),
        None => bail!("no snapshot in {}: {hint}", snapshots.display()),
    }
}

impl RamSource for RealGuest {
    fn len(&self) -> u64 {
        self.layout.len().0
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![0..self.len()])
    }
}
