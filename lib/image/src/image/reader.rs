//! Reading pages one by one.

use std::ops::Range;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex};

use super::map::Source;
use super::sources::{FrameCache, Sources};
use super::{Image, Version};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::pack::PackSource;
use crate::v1::ImageReader;

/// Frames that are kept decoded.
const FRAMES: usize = 32;

/// Reads single pages of an image; see [`Image::pages`].
pub struct PageReader<'a>(Kind<'a>);

enum Kind<'a> {
    One(&'a ImageReader),
    Two(Box<PartReader<'a>>),
}

impl<'a> PageReader<'a> {
    pub(super) fn new(image: &'a Image, packs: &'a dyn PackSource, disks: &'a [Disk<'a>]) -> Self {
        Self(match &image.0 {
            Version::One(old) => Kind::One(old),
            Version::Two(index) => {
                let parts = PartReader { sources: Sources::new(index, packs, disks), frames: None, disk: None };
                Kind::Two(Box::new(parts))
            }
        })
    }

    /// Reads one page; pages that are left out read as zero. Decodes the page's whole frame unless it was read lately.
    /// On error `buf` is unchanged.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such page, or what it is made of can not be read or fails its check.
    pub fn read(&mut self, page: PageIndex, buf: &mut [u8; PAGE_SIZE]) -> Result<(), ReadError> {
        let parts = match &mut self.0 {
            Kind::One(old) => return old.read_page(page, buf),
            Kind::Two(parts) => parts,
        };
        let image = parts.sources.image;
        let pages = image.map.layout.pages();
        let (run, source) = image.map.run_of(page).ok_or_else(|| ReadError::NoSuchPage {
            path: image.path.clone(),
            page: page.0,
            pages,
        })?;
        parts.read(run, source, page, buf)
    }
}

struct PartReader<'a> {
    sources: Sources<'a>,
    frames: Option<FrameCache>,
    /// The disk run that was read last, whole, by the number of its hash.
    disk: Option<(u32, Vec<u8>)>,
}

impl PartReader<'_> {
    fn read(
        &mut self,
        run: Range<u32>,
        source: Source,
        page: PageIndex,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<(), ReadError> {
        let bad = || ReadError::NotAnImage { path: self.sources.image.path.clone() };
        let into = page.0 - run.start;
        let (whole, place) = match source {
            Source::Zero | Source::Free => {
                buf.fill(0);
                return Ok(());
            }
            Source::Data { pack, at } => {
                let open = self.sources.pack(pack)?;
                let at = at + into;
                let key = (pack, at / open.frame_pages());
                let fault = |source| ReadError::PackIo { pack: open.id(), source };
                let cache = match &mut self.frames {
                    Some(cache) => cache,
                    none => none.insert(FrameCache::new(FRAMES).map_err(fault)?),
                };
                (cache.get(open, key)?, at % open.frame_pages())
            }
            Source::Disk { slot, block, hash } => {
                if self.disk.as_ref().is_none_or(|(held, _)| *held != hash) {
                    let mut whole = vec![0; run.len() * PAGE_SIZE];
                    self.disk = None;
                    self.sources.disk_run(slot, block, hash, &mut whole)?;
                    self.disk = Some((hash, whole));
                }
                (self.disk.as_ref().map(|(_, whole)| whole.as_slice()).unwrap_or_default(), into)
            }
        };
        *buf = *whole.as_chunks().0.get(place as usize).ok_or_else(bad)?;
        Ok(())
    }
}
