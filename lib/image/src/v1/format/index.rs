//! The index of an image: RAM regions, page map and frame table, in memory and as bytes.

use std::ops::Range;

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageClass, PageIndex, RamLayout, RamRegion};
use zerocopy::FromBytes;

use super::MAX_FRAME_PAGES;
use super::wire::{FixedParts, FrameRecord, HEADER_LEN, IndexHead, RegionRecord, RunRecord};
use crate::codec::{CodedFrame, Encoding};
use crate::digest::ImageRoot;
use crate::error::Damage;
use crate::page_kind::{PageKind, Run};
use crate::summary::ImageSummary;

/// A run of pages of one kind and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunEntry {
    /// Its first page; the run ends where the next one starts.
    pub(crate) start: u32,
    /// Number of data pages in all runs before it.
    pub(crate) data_before: u32,
    pub(crate) kind: PageKind,
    pub(crate) class: PageClass,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameEntry {
    pub(crate) coded: CodedFrame,
    /// Number of data pages in all frames before it.
    pub(crate) data_before: u32,
}

/// A checked index: runs cover RAM exactly, frames follow each other and hold exactly the data pages.
#[derive(Debug)]
pub(crate) struct Index {
    layout: RamLayout,
    runs: Vec<RunEntry>,
    frames: Vec<FrameEntry>,
}

impl Index {
    pub(crate) fn layout(&self) -> &RamLayout {
        &self.layout
    }

    pub(crate) fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// All runs with their pages, ascending.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Range<u32>, &RunEntry)> + '_ {
        self.runs_from(0)
    }

    fn runs_from(&self, first: usize) -> impl Iterator<Item = (Range<u32>, &RunEntry)> + '_ {
        let runs = self.runs.get(first..).unwrap_or_default();
        let ends = runs.iter().skip(1).map(|next| next.start).chain([self.layout.pages()]);
        runs.iter().zip(ends).map(|(run, end)| (run.start..end, run))
    }

    /// The run that holds `page`, or `None` past the end of RAM.
    pub(crate) fn run_of(&self, page: PageIndex) -> Option<&RunEntry> {
        let after = self.runs.partition_point(|run| run.start <= page.0);
        self.runs.get(after.checked_sub(1)?).filter(|_| page.0 < self.layout.pages())
    }

    /// The frame that holds the data page with this ordinal, and its place in the frame table.
    pub(crate) fn frame_of(&self, data_ordinal: u32) -> Option<(usize, &FrameEntry)> {
        let at = self.frames.partition_point(|frame| frame.data_before <= data_ordinal).checked_sub(1)?;
        let frame = self.frames.get(at)?;
        (data_ordinal - frame.data_before < u32::from(frame.coded.pages)).then_some((at, frame))
    }

    /// The pages whose bytes `frame` holds, ascending, as ranges that are as long as possible.
    pub(crate) fn pages_of(&self, frame: &FrameEntry) -> Vec<Range<u32>> {
        let (from, to) = (frame.data_before, frame.data_before + u32::from(frame.coded.pages));
        // Runs without data share their ordinal with the data run after them: start at the last run that begins early enough.
        let first = self.runs.partition_point(|run| run.data_before <= from).saturating_sub(1);
        let mut out: Vec<Range<u32>> = Vec::new();
        let data = self.runs_from(first).filter(|(_, run)| run.kind == PageKind::Data);
        for (pages, run) in data.take_while(|(_, run)| run.data_before < to) {
            let start = pages.start + from.saturating_sub(run.data_before);
            let end = pages.end.min(pages.start + (to - run.data_before));
            match out.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => out.push(start..end),
            }
        }
        out
    }

    /// What the image holds, in figures.
    pub(crate) fn summary(&self, root: ImageRoot, file_len: u64) -> ImageSummary {
        let stored = self.frames.iter().map(|frame| u64::from(frame.coded.stored_len)).sum();
        let runs = self.runs().map(|(pages, run)| Run { pages, kind: run.kind, class: run.class });
        ImageSummary::new(root, self.layout.len(), runs, Bytes(stored), Bytes(file_len))
    }

    /// Reads an index. Allocates no more than a small multiple of `bytes`.
    ///
    /// # Errors
    /// The first rule of the format that the bytes break.
    pub(crate) fn decode(bytes: &[u8], fixed: &FixedParts) -> Result<Self, Damage> {
        let (head, rest) = IndexHead::ref_from_prefix(bytes).map_err(|_| Damage::IndexLength)?;
        if head.reserved.get() != 0 {
            return Err(Damage::Reserved);
        }
        let (regions, rest) = table::<RegionRecord>(rest, head.regions.get())?;
        let (runs, rest) = table::<RunRecord>(rest, head.runs.get())?;
        let (frames, rest) = table::<FrameRecord>(rest, head.frames.get())?;
        if !rest.is_empty() {
            return Err(Damage::IndexLength);
        }
        let layout = decode_layout(regions, fixed.ram_len)?;
        let (runs, data_pages) = decode_runs(runs, layout.pages())?;
        let frames = decode_frames(frames, fixed, data_pages)?;
        Ok(Self { layout, runs, frames })
    }
}

fn table<T>(bytes: &[u8], count: u32) -> Result<(&[T], &[u8]), Damage>
where
    T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned,
{
    let count = usize::try_from(count).map_err(|_| Damage::IndexLength)?;
    <[T]>::ref_from_prefix_with_elems(bytes, count).map_err(|_| Damage::IndexLength)
}

fn decode_layout(records: &[RegionRecord], ram_len: u64) -> Result<RamLayout, Damage> {
    if records.len() > RamLayout::MAX_REGIONS {
        return Err(Damage::Layout);
    }
    let region =
        |r: &RegionRecord| RamRegion { guest: GuestAddr(r.guest.get()), offset: r.offset.get(), len: r.len.get() };
    let layout = RamLayout::new(records.iter().map(region).collect()).map_err(|_| Damage::Layout)?;
    if layout.len().0 == ram_len { Ok(layout) } else { Err(Damage::Layout) }
}

fn decode_runs(records: &[RunRecord], ram_pages: u32) -> Result<(Vec<RunEntry>, u32), Damage> {
    let (mut start, mut data_before) = (0u32, 0u32);
    let mut runs = Vec::with_capacity(records.len());
    for record in records {
        let known = [PageKind::Zero, PageKind::Free, PageKind::Data];
        let kind = PageKind::from_code(record.kind).filter(|k| known.contains(k)).ok_or(Damage::PageMap)?;
        let class = PageClass::from_code(record.class).ok_or(Damage::PageMap)?;
        let pages = record.pages.get();
        if pages == 0 || pages > ram_pages - start {
            return Err(Damage::PageMap);
        }
        if record.reserved.get() != 0 {
            return Err(Damage::Reserved);
        }
        runs.push(RunEntry { start, data_before, kind, class });
        start += pages;
        data_before += if kind == PageKind::Data { pages } else { 0 };
    }
    if start == ram_pages { Ok((runs, data_before)) } else { Err(Damage::PageMap) }
}

fn decode_frames(records: &[FrameRecord], fixed: &FixedParts, data_pages: u32) -> Result<Vec<FrameEntry>, Damage> {
    let (mut offset, mut data_before) = (HEADER_LEN, 0u32);
    let mut frames = Vec::with_capacity(records.len());
    for record in records {
        let frame = decode_frame(record, data_before)?;
        let pages = u32::from(frame.coded.pages);
        let too_many = pages > fixed.frame_pages.min(MAX_FRAME_PAGES) || pages > data_pages - data_before;
        if frame.coded.offset != offset || too_many || u64::from(frame.coded.stored_len) > fixed.index_offset - offset {
            return Err(Damage::FrameTable);
        }
        offset += u64::from(frame.coded.stored_len);
        data_before += pages;
        frames.push(frame);
    }
    if data_before == data_pages && offset == fixed.index_offset { Ok(frames) } else { Err(Damage::FrameTable) }
}

fn decode_frame(record: &FrameRecord, data_before: u32) -> Result<FrameEntry, Damage> {
    let known = [Encoding::Raw, Encoding::Zstd];
    let encoding = Encoding::from_code(record.encoding).filter(|e| known.contains(e)).ok_or(Damage::FrameTable)?;
    let (pages, stored_len) = (record.pages.get(), record.stored_len.get());
    let raw_len = u32::from(pages) * PAGE_SIZE as u32;
    let length_fits = match encoding {
        Encoding::Raw => stored_len == raw_len,
        Encoding::Zstd | Encoding::Lz4 => stored_len > 0 && stored_len < raw_len,
    };
    if pages == 0 || !length_fits {
        return Err(Damage::FrameTable);
    }
    if record.reserved != 0 {
        return Err(Damage::Reserved);
    }
    let offset = record.offset.get();
    let coded = CodedFrame { offset, stored_len, pages, encoding, checksum: record.checksum };
    Ok(FrameEntry { coded, data_before })
}
