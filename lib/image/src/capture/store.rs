//! The second pass: the data pages into a pack, the map of all pages into the index.

use std::fs::File;
use std::ops::Range;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, RamSource};

use super::draft::DraftSource;
use super::place::Order;
use super::{Accounting, StoreOptions, Stored};
use crate::error::WriteError;
use crate::image::format;
use crate::image::map::{MapBuilder, PackEntry, PageMap, Source};
use crate::image::summary;
use crate::output::{Output, OutputFault};
use crate::pack::{Feed, FeedReader, NewPack, write_pack};
use crate::progress::Progress;

/// The data pages of a paused guest.
struct RamFeed<'a> {
    ram: &'a dyn RamSource,
    order: &'a [u32],
}

struct RamReader<'a>(&'a RamFeed<'a>);

impl Feed for RamFeed<'_> {
    fn pages(&self) -> u32 {
        self.order.len() as u32
    }

    fn reader(&self) -> Result<Box<dyn FeedReader + '_>, WriteError> {
        Ok(Box::new(RamReader(self)))
    }
}

impl FeedReader for RamReader<'_> {
    fn read(&mut self, pages: Range<u32>, buf: &mut [u8]) -> Result<(), WriteError> {
        let wanted = self.0.order.get(pages.start as usize..pages.end as usize).unwrap_or_default();
        let mut rest = buf;
        for run in wanted.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let Some(first) = run.first() else { continue };
            let (now, later) = rest.split_at_mut_checked(run.len() * PAGE_SIZE).unwrap_or_default();
            rest = later;
            let offset = PageIndex(*first).offset();
            self.0.ram.read_at(offset, now).map_err(|source| WriteError::Ram { offset, source })?;
        }
        Ok(())
    }
}

pub(super) fn store(
    accounting: &Accounting,
    ram: &dyn RamSource,
    (pack_out, index_out): (&File, &File),
    options: &StoreOptions,
    progress: &dyn Progress,
) -> Result<Stored, WriteError> {
    let expected = accounting.layout.len();
    if ram.len() != expected.0 {
        return Err(WriteError::LengthMismatch { expected, found: Bytes(ram.len()) });
    }
    let order = Order::new(&accounting.data, &accounting.classes);
    let mut packs = PackTable::new(&accounting.parent_packs);
    let index_most = format::most_file_len(32 * accounting.run_count() as u64);
    let feed = RamFeed { ram, order: order.pages() };
    let new = write_pack(&feed, pack_out, index_most, options, progress)?;
    let map = build(accounting, &order, new.as_ref(), &mut packs);
    finish(&map, new, accounting, index_out)
}

/// Writes the index.
pub(crate) fn write_index(map: &PageMap, out: &File) -> Result<(crate::digest::ImageRoot, u64), WriteError> {
    let (bytes, root) = format::encode(map)?;
    let mut output = Output::new(out)?;
    match output.put(&bytes) {
        Ok(()) => Ok((root, bytes.len() as u64)),
        Err(OutputFault::Io(source)) => Err(WriteError::Output { source }),
        Err(OutputFault::Full) => Err(output.no_space(bytes.len() as u64)),
    }
}

fn finish(map: &PageMap, new: Option<NewPack>, of: &Accounting, index_out: &File) -> Result<Stored, WriteError> {
    let (root, index_len) = write_index(map, index_out)?;
    Ok(Stored {
        pack: new.map(|pack| pack.sealed),
        packs: sorted(map),
        root,
        index_len: Bytes(index_len),
        ram_digest: of.ram_digest,
        summary: summary(map, root, index_len),
    })
}

/// The packs of an image as the manifest lists them.
pub(crate) fn sorted(map: &PageMap) -> Vec<crate::pack::PackRef> {
    let mut packs: Vec<_> = map.packs.iter().map(|pack| pack.named).collect();
    packs.sort_unstable();
    packs
}

/// The packs of the new image: those of the old one that are still needed, numbered anew, and the one that was written.
pub(crate) struct PackTable<'a> {
    old: &'a [PackEntry],
    numbers: Vec<Option<u16>>,
    packs: Vec<PackEntry>,
}

impl<'a> PackTable<'a> {
    pub(crate) fn new(old: &'a [PackEntry]) -> Self {
        Self { old, numbers: vec![None; old.len()], packs: Vec::new() }
    }

    /// The new number of a pack of the old image.
    pub(crate) fn inherit(&mut self, pack: u16) -> Option<u16> {
        let (number, entry) = (self.numbers.get_mut(usize::from(pack))?, self.old.get(usize::from(pack))?);
        Some(*number.get_or_insert_with(|| add(&mut self.packs, *entry)))
    }

    /// The number of the pack that was written.
    pub(crate) fn add(&mut self, new: &NewPack) -> u16 {
        add(&mut self.packs, PackEntry { named: new.sealed.named(), pages: new.pages })
    }

    pub(crate) fn into_packs(self) -> Vec<PackEntry> {
        self.packs
    }
}

/// Equal packs are one: the same pages were stored before.
fn add(packs: &mut Vec<PackEntry>, entry: PackEntry) -> u16 {
    let found = packs.iter().position(|pack| *pack == entry);
    let number = found.unwrap_or_else(|| {
        packs.push(entry);
        packs.len() - 1
    });
    // There are never more than MAX_PACKS.
    number as u16
}

fn build(of: &Accounting, order: &Order<'_>, new: Option<&NewPack>, packs: &mut PackTable<'_>) -> PageMap {
    let mut builder = MapBuilder::new();
    let mut new_number = None;
    let mut duplicates = of.duplicates.iter().peekable();
    let mut page = 0;
    for chunk in &of.chunks {
        let mut hashes = chunk.disk_hashes.iter();
        for run in &chunk.runs {
            let pages = u32::from(run.pages);
            match run.source {
                DraftSource::Zero => builder.push(pages, Source::Zero),
                DraftSource::Free => builder.push(pages, Source::Free),
                DraftSource::Parent { pack, at } => {
                    let pack = packs.inherit(pack).unwrap_or_default();
                    builder.push(pages, Source::Data { pack, at });
                }
                DraftSource::Disk { slot, block } => {
                    builder.push_disk(pages, slot, block, hashes.next().copied().unwrap_or_default());
                }
                DraftSource::New => {
                    for page in page..page + pages {
                        let original = duplicates.next_if(|(duplicate, _)| *duplicate == page);
                        let at = order.place(original.map_or(page, |(_, original)| *original)).unwrap_or_default();
                        let pack = *new_number.get_or_insert_with(|| new.map_or(0, |new| packs.add(new)));
                        builder.push(1, Source::Data { pack, at });
                    }
                }
            }
            page += pages;
        }
    }
    let digests = of.chunks.iter().map(|chunk| chunk.digest).collect();
    let packs = std::mem::replace(packs, PackTable::new(&[])).into_packs();
    builder.finish(of.layout.clone(), packs, of.classes.clone(), digests)
}
