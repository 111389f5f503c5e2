//! Pages of packs as the content of another.

use std::ops::Range;

use dormouse_guest_mem::PAGE_SIZE;

use crate::error::{PackDamage, ReadError, WriteError};
use crate::image::sources::{FrameCache, Sources};
use crate::pack::{Feed, FeedReader};

/// Frames that each thread keeps decoded: pages come in the order of their class and address, so the frames of each pack
/// are needed one after the other.
const FRAMES: usize = 64;

/// A page of a pack, by the pack's number in the image's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PagePlace {
    pub(super) pack: u16,
    pub(super) at: u32,
}

pub(super) struct PackFeed<'a> {
    pub(super) sources: &'a Sources<'a>,
    pub(super) order: &'a [PagePlace],
}

struct Reader<'a> {
    feed: &'a PackFeed<'a>,
    cache: FrameCache,
}

impl Feed for PackFeed<'_> {
    fn pages(&self) -> u32 {
        self.order.len() as u32
    }

    fn reader(&self) -> Result<Box<dyn FeedReader + '_>, WriteError> {
        let cache = FrameCache::new(FRAMES).map_err(|source| WriteError::Compress { source })?;
        Ok(Box::new(Reader { feed: self, cache }))
    }
}

impl FeedReader for Reader<'_> {
    fn read(&mut self, pages: Range<u32>, buf: &mut [u8]) -> Result<(), WriteError> {
        let wanted = self.feed.order.get(pages.start as usize..pages.end as usize).unwrap_or_default();
        for (PagePlace { pack, at }, out) in wanted.iter().zip(buf.as_chunks_mut::<PAGE_SIZE>().0) {
            let open = self.feed.sources.pack(*pack)?;
            let frame = self.cache.get(open, (*pack, at / open.frame_pages()))?;
            let page = frame.as_chunks().0.get((at % open.frame_pages()) as usize);
            *out = *page.ok_or(ReadError::PackDamaged { pack: open.id(), damage: PackDamage::FrameTable })?;
        }
        Ok(())
    }
}
