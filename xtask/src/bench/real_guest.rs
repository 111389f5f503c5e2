//! The RAM of a real paused guest: the template that the real-VM scenarios built.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dormouse_guest_mem::{RamLayout, RamSource};
use dormouse_image::ImageReader;

/// An unpacked RAM file of a real guest. Pages that were left out as free are holes; the page structures are there.
pub(super) struct RealGuest {
    file: File,
    pub(super) layout: RamLayout,
    pub(super) free_pages: u32,
}

/// Unpacks the largest memory image of the scenarios' state folder.
pub(super) fn load() -> anyhow::Result<RealGuest> {
    let snapshots = crate::target_dir().join("vm-tests/state/snapshots");
    let image = largest_image(&snapshots)?;
    let reader = ImageReader::open(&image, None).with_context(|| format!("open {}", image.display()))?;
    let file = tempfile::tempfile_in(crate::target_dir())?;
    reader.materialise(&file, 2, &())?;
    Ok(RealGuest { file, layout: reader.layout().clone(), free_pages: reader.summary().pages.free })
}

fn largest_image(snapshots: &Path) -> anyhow::Result<PathBuf> {
    let hint = "run ./test once: its scenarios build the template that is measured here";
    let listed = std::fs::read_dir(snapshots).with_context(|| format!("{}: {hint}", snapshots.display()))?;
    let images = listed.flatten().map(|entry| entry.path().join("memory.img"));
    match images.max_by_key(|image| image.metadata().map_or(0, |m| m.len())) {
        Some(image) if image.is_file() => Ok(image),
        _ => bail!("no memory image in {}: {hint}", snapshots.display()),
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
