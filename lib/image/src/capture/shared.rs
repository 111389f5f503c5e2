//! What all threads of the first pass look at.

use std::ops::Range;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, PageSet, RamSource};

use super::{Capture, Parent};
use crate::disk::{DiskContent, DiskSlot};
use crate::error::WriteError;
use crate::image::chunk::zero_digest;
use crate::image::map::{MAX_PACKS, PageMap};
use crate::ram::populated;

pub(super) struct Shared<'a> {
    pub(super) capture: &'a Capture<'a>,
    pub(super) parent: Option<ParentView<'a>>,
    /// The base disk before the overlay: what is on it can be inherited.
    pub(super) disks: Vec<DiskContent<'a>>,
    populated: Vec<Range<u32>>,
    /// The hash of a chunk of zero pages.
    pub(super) zero: [u8; 32],
}

/// A parent that can be used.
pub(super) struct ParentView<'a> {
    pub(super) map: &'a PageMap,
    pub(super) written: &'a PageSet,
    pub(super) ram: &'a dyn RamSource,
}

impl<'a> Shared<'a> {
    pub(super) fn new(capture: &'a Capture<'a>) -> Result<Self, WriteError> {
        let expected = capture.layout.len();
        let set_len = |set: &PageSet| u64::from(set.capacity()) * PAGE_SIZE as u64;
        let parent_lens = capture.parent.as_ref().map(|p| [p.image.layout().len().0, set_len(p.written), p.ram.len()]);
        let others = [Some(capture.ram.len()), capture.free.map(set_len)];
        let mut all = others.into_iter().flatten().chain(parent_lens.into_iter().flatten());
        if let Some(found) = all.find(|len| *len != expected.0) {
            return Err(WriteError::LengthMismatch { expected, found: Bytes(found) });
        }
        let mut disks = capture.disks.to_vec();
        disks.sort_by_key(|disk| disk.slot);
        disks.dedup_by_key(|disk| disk.slot);
        Ok(Self {
            capture,
            parent: capture.parent.as_ref().and_then(usable),
            disks,
            populated: populated(capture.ram)?,
            zero: zero_digest(),
        })
    }

    pub(super) fn is_free(&self, page: u32) -> bool {
        self.capture.free.is_some_and(|set| set.contains(PageIndex(page)))
    }

    pub(super) fn has_disk(&self, slot: DiskSlot) -> bool {
        self.disks.iter().any(|disk| disk.slot == slot)
    }

    /// The parts of `pages` that may hold something.
    pub(super) fn populated_in(&self, pages: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
        let first = self.populated.partition_point(|range| range.end <= pages.start);
        let ranges = self.populated.get(first..).unwrap_or_default().iter();
        let (from, to) = (pages.start, pages.end);
        ranges.take_while(move |range| range.start < to).map(move |range| range.start.max(from)..range.end.min(to))
    }
}

/// A parent of version 1 knows no places that could be inherited, and one with as many packs as there can be leaves none
/// for this image's own.
fn usable<'a>(parent: &Parent<'a>) -> Option<ParentView<'a>> {
    let map = &parent.image.index()?.map;
    (map.packs.len() < MAX_PACKS).then_some(ParentView { map, written: parent.written, ram: parent.ram })
}
