//! Looking into a snapshot: where every byte of RAM went.

use std::path::Path;

use dormouse_guest_mem::Bytes;
use dormouse_image::{Image, KindCounts, PageKind};

use super::report::Report;
use super::stored::{DEVICE_STATE, OVERLAY, allocated};
use super::{PackFolder, Stored};
use crate::{ClassRow, Inspection, MapRun, RamMap, Result};

impl Stored {
    /// Where every byte of RAM went, and what the snapshot costs.
    pub(crate) fn inspect(&self) -> Result<Inspection> {
        let reader = self.image()?;
        let report = Report::read(&self.manifest.report, &self.manifest.introspection);
        let summary = reader.summary();
        let bytes = |pages: u32| Bytes::of_pages(pages.into());
        let rows =
            summary.by_class.iter().filter(|(_, count)| count.pages_total() > 0).map(|(class, count)| ClassRow {
                class: *class,
                total: bytes(count.pages_total()),
                zero: bytes(count.zero),
                on_disks: on_disks(count),
                data: bytes(count.data),
            });
        Ok(Inspection {
            snapshot: self.id.clone(),
            template: self.manifest.template.parse().map_err(|e: crate::BadId| self.damaged(&e))?,
            created: self.manifest.created.parse().map_err(|e: jiff::Error| self.damaged(&e))?,
            ram: reader.layout().len(),
            free: bytes(summary.pages.free),
            zero: bytes(summary.pages.zero),
            on_disks: on_disks(&summary.pages),
            kept: bytes(summary.pages.data),
            new_pack: report.new_pack,
            memory_on_disk: self.memory_on_disk(),
            device_state_on_disk: allocated(&self.dir.join(DEVICE_STATE)),
            overlay_on_disk: allocated(&self.dir.join(OVERLAY)),
            classes: rows.collect(),
            introspection: report.introspection,
            comparison: report.comparison,
            stillness: report.stillness,
            steps: report.steps,
            remote: None,
        })
    }

    /// The whole RAM as runs of pages that were treated alike.
    pub(crate) fn ram_map(&self) -> Result<RamMap> {
        let reader = self.image()?;
        let runs = reader.runs().map(|run| MapRun {
            start: run.pages.start,
            pages: run.pages.len() as u32,
            class: run.class,
            stored: run.kind == PageKind::Data,
        });
        Ok(RamMap { layout: reader.layout().clone(), runs: runs.collect() })
    }

    /// Checks every byte that the memory image needs.
    pub(crate) fn verify(&self, artifacts: &Path, packs: &PackFolder, threads: usize) -> Result<()> {
        let disks = self.disks(artifacts)?;
        let checked = self.image()?.verify(packs.packs(), &disks.list(), threads, &());
        checked.map_err(|e| self.damaged(&e))
    }

    /// The memory image, its index checked.
    pub(crate) fn image(&self) -> Result<Image> {
        Image::open(&self.memory_file(), Some(&self.image_root())).map_err(|e| self.damaged(&e))
    }
}

fn on_disks(count: &KindCounts) -> Bytes {
    Bytes::of_pages(u64::from(count.base_disk) + u64::from(count.overlay_disk))
}
