//! Rewriting the packs of an image, so that what a resume costs does not grow with the number of generations.

mod feed;
mod select;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use dormouse_guest_mem::{Bytes, PageIndex, PageSet};

use self::feed::{PackFeed, PagePlace};
pub use self::select::CompactionPolicy;
use self::select::{Usage, choose};
use crate::capture::{PackTable, StoreOptions, Stored, rank, sorted, write_index};
use crate::digest::PackId;
use crate::error::WriteError;
use crate::image::map::{MapBuilder, PageMap, Source};
use crate::image::sources::Sources;
use crate::image::{Image, format, summary};
use crate::pack::{NewPack, PackSource, write_pack};
use crate::progress::Progress;

/// The packs that [`compact`] would rewrite: it reads these and no others.
#[must_use]
pub fn packs_to_compact(image: &Image, keep: &BTreeSet<PackId>, policy: CompactionPolicy) -> Vec<PackId> {
    let Some(index) = image.index() else { return Vec::new() };
    let chosen = choose(&usage(&index.map, keep), policy);
    chosen.iter().filter_map(|number| Some(index.map.packs.get(usize::from(*number))?.named.id)).collect()
}

/// Writes the pages that `image` needs of its packs (but those in `keep`) into one new pack, and an index that is the same
/// but for their places, if the policy says so. Which packs are rewritten is up to the policy: a large one that is all
/// needed is left alone for long. Every byte is checked on the way; what RAM the image restores does not change.
///
/// Neither the image nor its packs are touched. `pack` and `index` are empty files, as for a pause.
///
/// # Errors
/// [`WriteError`]; both files then hold rubbish that no reader accepts.
pub fn compact(
    image: &Image,
    packs: &dyn PackSource,
    keep: &BTreeSet<PackId>,
    policy: CompactionPolicy,
    (pack_out, index_out): (&File, &File),
    options: StoreOptions,
    progress: &dyn Progress,
) -> Result<Option<Stored>, WriteError> {
    // Version 1 has no packs.
    let Some(index) = image.index() else { return Ok(None) };
    let map = &index.map;
    let chosen = choose(&usage(map, keep), policy);
    if chosen.is_empty() {
        return Ok(None);
    }
    let order = order(map, &chosen);
    let sources = Sources::new(index, packs, &[]);
    let index_most = format::most_file_len(format::body_len(map) + 16 * order.len() as u64);
    let feed = PackFeed { sources: &sources, order: &order };
    let new = write_pack(&feed, pack_out, index_most, &options, progress)?;
    let map = moved(map, &order, new.as_ref());
    let (root, index_len) = write_index(&map, index_out)?;
    Ok(Some(Stored {
        pack: new.map(|pack| pack.sealed),
        packs: sorted(&map),
        root,
        index_len: Bytes(index_len),
        ram_digest: index.ram_digest,
        summary: summary(&map, root, index_len),
    }))
}

/// How much of each pack that need not be kept is needed.
fn usage(map: &PageMap, keep: &BTreeSet<PackId>) -> Vec<Usage> {
    let mut live: Vec<_> = map.packs.iter().map(|pack| PageSet::new(pack.pages)).collect();
    for (pages, source) in map.all_runs() {
        if let Source::Data { pack, at } = source
            && let Some(set) = live.get_mut(usize::from(pack))
        {
            set.insert_range(at..at + pages.len() as u32);
        }
    }
    let all = map.packs.iter().zip(live).zip(0u16..);
    let own = all.filter(|((pack, _), _)| !keep.contains(&pack.named.id));
    own.map(|((pack, live), number)| Usage { number, pages: pack.pages, live: live.len() }).collect()
}

/// The needed pages of the chosen packs, in the order in which the new pack gets them: as for a pause, by class and then by
/// the first address that they are needed at.
fn order(map: &PageMap, chosen: &[u16]) -> Vec<PagePlace> {
    let pages = |number: &u16| map.packs.get(usize::from(*number)).map_or(0, |pack| pack.pages);
    let mut seen: HashMap<u16, PageSet> = chosen.iter().map(|pack| (*pack, PageSet::new(pages(pack)))).collect();
    let mut found = Vec::new();
    for (run, source) in map.all_runs() {
        let Source::Data { pack, at } = source else { continue };
        let Some(seen) = seen.get_mut(&pack) else { continue };
        for (pages, class) in map.classes_in(run.clone()) {
            for page in pages {
                let at = at + (page - run.start);
                if !seen.contains(PageIndex(at)) {
                    seen.insert(PageIndex(at));
                    found.push((rank(class) as u8, page, PagePlace { pack, at }));
                }
            }
        }
    }
    found.sort_unstable_by_key(|(rank, page, _)| (*rank, *page));
    found.into_iter().map(|(_, _, place)| place).collect()
}

/// The map with the pages of the chosen packs where the new pack has them.
fn moved(map: &PageMap, order: &[PagePlace], new: Option<&NewPack>) -> PageMap {
    let places: HashMap<PagePlace, u32> = order.iter().copied().zip(0..).collect();
    let mut packs = PackTable::new(&map.packs);
    let mut builder = MapBuilder::new();
    for (run, source) in map.all_runs() {
        let pages = run.len() as u32;
        match source {
            Source::Zero | Source::Free => builder.push(pages, source),
            Source::Disk { slot, block, hash } => {
                let hash = map.disk_hashes.get(hash as usize).copied().unwrap_or_default();
                builder.push_disk(pages, slot, block, hash);
            }
            Source::Data { pack, at } => {
                for at in at..at + pages {
                    let moved = places.get(&PagePlace { pack, at }).zip(new);
                    builder.push(
                        1,
                        match moved {
                            Some((place, new)) => Source::Data { pack: packs.add(new), at: *place },
                            None => Source::Data { pack: packs.inherit(pack).unwrap_or_default(), at },
                        },
                    );
                }
            }
        }
    }
    builder.finish(map.layout.clone(), packs.into_packs(), map.classes.clone(), map.chunks.clone())
}
