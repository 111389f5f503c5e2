//! The body of an image index: the page map in columns, so that like stands beside like and compresses well.
//!
//! ```text
//! regions   count; guest page number of each; pages of each
//! packs     count; id (32 bytes) of each; file length of each; pages of each
//! classes   number of runs; class (1 byte) of each; pages of each
//! sources   number of runs; kind (1 byte) of each; pages of each;
//!           pack of each data run; place of each data and disk run, as the difference to where the run before it in the
//!           same pack or on the same disk ended; BLAKE3 (32 bytes) of each disk run
//! chunks    BLAKE3 (32 bytes) of each 2 MiB of RAM
//! ```
//!
//! Numbers are LEB128 in their shortest form, differences zigzag. Runs cover RAM exactly, regions are dense in the RAM file.

use std::collections::BTreeSet;

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SHIFT, PageClass, RamLayout, RamRegion};

use super::chunk::chunk_count;
use super::map::{ClassRun, MAX_PACKS, PackEntry, PageMap, Source, SourceRun, is_disk_run};
use super::varint::{Cursor, apply, difference, put};
use crate::digest::{Digest, PackId};
use crate::disk::DiskSlot;
use crate::error::Damage;
use crate::pack::PackRef;
use crate::page_kind::PageKind;

/// Where the last run in each pack and on each disk ended: where the next one is expected.
struct Ends {
    packs: Vec<u32>,
    disks: [u32; 2],
}

impl Ends {
    fn new(packs: usize) -> Self {
        Self { packs: vec![0; packs], disks: [0; 2] }
    }

    fn of(&mut self, source: Source) -> Option<&mut u32> {
        match source {
            Source::Zero | Source::Free => None,
            Source::Data { pack, .. } => self.packs.get_mut(usize::from(pack)),
            Source::Disk { slot, .. } => self.disks.get_mut(slot as usize),
        }
    }
}

pub(super) fn encode(map: &PageMap) -> Vec<u8> {
    let mut out = Vec::new();
    let regions = map.layout.regions();
    put(&mut out, regions.len() as u64);
    regions.iter().for_each(|r| put(&mut out, r.guest.0 >> PAGE_SHIFT));
    regions.iter().for_each(|r| put(&mut out, r.len >> PAGE_SHIFT));

    put(&mut out, map.packs.len() as u64);
    map.packs.iter().for_each(|p| out.extend_from_slice(&p.named.id.0.0));
    map.packs.iter().for_each(|p| put(&mut out, p.named.len.0));
    map.packs.iter().for_each(|p| put(&mut out, p.pages.into()));

    put(&mut out, map.classes.len() as u64);
    out.extend(map.classes.iter().map(|run| run.class.code()));
    let starts = map.classes.iter().map(|run| run.start);
    lengths(&mut out, starts, map.layout.pages());

    put(&mut out, map.runs.len() as u64);
    out.extend(map.runs.iter().map(|run| run.source.kind().code()));
    lengths(&mut out, map.runs.iter().map(|run| run.start), map.layout.pages());
    for run in &map.runs {
        if let Source::Data { pack, .. } = run.source {
            put(&mut out, pack.into());
        }
    }
    let mut ends = Ends::new(map.packs.len());
    for (pages, source) in map.all_runs() {
        let (Source::Data { at, .. } | Source::Disk { block: at, .. }) = source else { continue };
        let Some(end) = ends.of(source) else { continue };
        put(&mut out, difference(*end, at));
        *end = at.saturating_add(pages.len() as u32);
    }
    out.extend_from_slice(map.disk_hashes.as_flattened());
    out.extend_from_slice(map.chunks.as_flattened());
    out
}

fn lengths(out: &mut Vec<u8>, starts: impl Iterator<Item = u32> + Clone, end: u32) {
    let next = starts.clone().skip(1).chain([end]);
    starts.zip(next).for_each(|(start, end)| put(out, (end - start).into()));
}

pub(super) fn decode(body: &[u8], ram_len: u64) -> Result<PageMap, Damage> {
    let mut cursor = Cursor(body);
    let layout = decode_layout(&mut cursor, ram_len)?;
    let packs = decode_packs(&mut cursor)?;
    let classes = decode_classes(&mut cursor, layout.pages())?;
    let (runs, disk_runs) = decode_sources(&mut cursor, layout.pages(), &packs)?;
    let disk_hashes = cursor.digests(disk_runs).ok_or(Damage::IndexLength)?;
    let chunks = cursor.digests(chunk_count(layout.pages()) as usize).ok_or(Damage::IndexLength)?;
    if !cursor.0.is_empty() {
        return Err(Damage::IndexLength);
    }
    Ok(PageMap { layout, packs, runs, classes, disk_hashes, chunks })
}

/// A count, of things that take at least one byte each. So nothing is reserved for more than there can be.
fn count(cursor: &mut Cursor<'_>) -> Result<usize, Damage> {
    let count = cursor.number32().ok_or(Damage::IndexLength)? as usize;
    if count <= cursor.0.len() { Ok(count) } else { Err(Damage::IndexLength) }
}

fn column<T>(
    cursor: &mut Cursor<'_>,
    count: usize,
    take: impl Fn(&mut Cursor<'_>) -> Option<T>,
) -> Result<Vec<T>, Damage> {
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(take(cursor).ok_or(Damage::IndexLength)?);
    }
    Ok(out)
}

fn decode_layout(cursor: &mut Cursor<'_>, ram_len: u64) -> Result<RamLayout, Damage> {
    let count = count(cursor)?;
    if count > RamLayout::MAX_REGIONS {
        return Err(Damage::Layout);
    }
    let address = |pages: u64| pages.checked_mul(1 << PAGE_SHIFT);
    let guests = column(cursor, count, |c| c.number().and_then(address))?;
    let lens = column(cursor, count, |c| c.number().and_then(address))?;
    let mut offset = 0u64;
    let mut regions = Vec::with_capacity(count);
    for (guest, len) in guests.into_iter().zip(lens) {
        regions.push(RamRegion { guest: GuestAddr(guest), offset, len });
        offset = offset.checked_add(len).ok_or(Damage::Layout)?;
    }
    let layout = RamLayout::new(regions).map_err(|_| Damage::Layout)?;
    if layout.len().0 == ram_len { Ok(layout) } else { Err(Damage::Layout) }
}

fn decode_packs(cursor: &mut Cursor<'_>) -> Result<Vec<PackEntry>, Damage> {
    let count = count(cursor)?;
    if count > MAX_PACKS {
        return Err(Damage::PackTable);
    }
    let ids = cursor.digests(count).ok_or(Damage::IndexLength)?;
    let lens = column(cursor, count, |c| c.number())?;
    let pages = column(cursor, count, |c| c.number32())?;
    if ids.iter().collect::<BTreeSet<_>>().len() != count || pages.contains(&0) {
        return Err(Damage::PackTable);
    }
    let named = ids.into_iter().zip(lens).map(|(id, len)| PackRef { id: PackId(Digest(id)), len: Bytes(len) });
    Ok(named.zip(pages).map(|(named, pages)| PackEntry { named, pages }).collect())
}

/// Starts of runs from their lengths, which must cover `total` pages exactly.
fn starts(cursor: &mut Cursor<'_>, count: usize, total: u32) -> Result<Vec<u32>, Damage> {
    let mut at = 0u32;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let pages = cursor.number32().ok_or(Damage::IndexLength)?;
        if pages == 0 || pages > total - at {
            return Err(Damage::PageMap);
        }
        out.push(at);
        at += pages;
    }
    if at == total { Ok(out) } else { Err(Damage::PageMap) }
}

fn decode_classes(cursor: &mut Cursor<'_>, ram_pages: u32) -> Result<Vec<ClassRun>, Damage> {
    let count = count(cursor)?;
    let codes = cursor.bytes(count).ok_or(Damage::IndexLength)?;
    let starts = starts(cursor, count, ram_pages)?;
    let class = |(start, code): (u32, &u8)| Some(ClassRun { start, class: PageClass::from_code(*code)? });
    starts.into_iter().zip(codes).map(class).collect::<Option<_>>().ok_or(Damage::PageMap)
}

fn decode_sources(
    cursor: &mut Cursor<'_>,
    ram_pages: u32,
    packs: &[PackEntry],
) -> Result<(Vec<SourceRun>, usize), Damage> {
    let count = count(cursor)?;
    let codes = cursor.bytes(count).ok_or(Damage::IndexLength)?;
    let kinds =
        codes.iter().map(|code| PageKind::from_code(*code)).collect::<Option<Vec<_>>>().ok_or(Damage::PageMap)?;
    let starts = starts(cursor, count, ram_pages)?;
    let data_runs = kinds.iter().filter(|kind| **kind == PageKind::Data).count();
    let mut data_packs = column(cursor, data_runs, |c| c.number32())?.into_iter();
    let mut ends = Ends::new(packs.len());
    let mut used = vec![false; packs.len()];
    let mut hash = 0u32;
    let mut runs = Vec::with_capacity(count);
    let next = starts.iter().copied().skip(1).chain([ram_pages]);
    for ((start, end), kind) in starts.iter().copied().zip(next).zip(kinds) {
        let blank = match (kind, DiskSlot::of(kind)) {
            (_, Some(slot)) => Source::Disk { slot, block: 0, hash },
            (PageKind::Zero, _) => Source::Zero,
            (PageKind::Free, _) => Source::Free,
            _ => {
                let pack = data_packs.next().ok_or(Damage::PageMap)?;
                *used.get_mut(pack as usize).ok_or(Damage::PageMap)? = true;
                Source::Data { pack: u16::try_from(pack).map_err(|_| Damage::PageMap)?, at: 0 }
            }
        };
        let source = match ends.of(blank) {
            None => blank,
            Some(expected) => {
                let at = cursor.number().and_then(|d| apply(*expected, d)).ok_or(Damage::PageMap)?;
                *expected = at.checked_add(end - start).ok_or(Damage::PageMap)?;
                blank.skip(at)
            }
        };
        check_place(source, start..end, packs)?;
        hash += u32::from(matches!(source, Source::Disk { .. }));
        runs.push(SourceRun { start, source });
    }
    if used.contains(&false) {
        return Err(Damage::PackTable);
    }
    Ok((runs, hash as usize))
}

/// Whether there is such a place for such a run.
fn check_place(source: Source, pages: std::ops::Range<u32>, packs: &[PackEntry]) -> Result<(), Damage> {
    let fits = match source {
        Source::Zero | Source::Free => true,
        Source::Data { pack, at } => {
            let held = packs.get(usize::from(pack)).map_or(0, |pack| pack.pages);
            at.checked_add(pages.len() as u32).is_some_and(|end| end <= held)
        }
        Source::Disk { .. } => is_disk_run(&pages),
    };
    if fits { Ok(()) } else { Err(Damage::PageMap) }
}
