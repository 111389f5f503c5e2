//! Checking everything that an image needs, and RAM as a whole.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{io, thread};

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, is_zero};

use super::IndexImage;
use super::chunk::{chunk_count, chunk_digest, chunk_pages, zero_digest};
use super::map::Source;
use super::sources::{FrameCache, Sources};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::pack::PackSource;
use crate::progress::Progress;

/// Chunks that a thread takes at a time: neighbours need the same frames.
const BATCH_CHUNKS: u32 = 32;
/// Frames that a thread keeps decoded.
const FRAMES: usize = 256;

struct Job<'a> {
    sources: Sources<'a>,
    progress: &'a dyn Progress,
    next: AtomicU32,
    done: AtomicU32,
    stop: AtomicBool,
    /// Hears of what is wrong while the rest is still checked. Without it the first fault ends the job.
    tell: Option<&'a (dyn Fn(ReadError) + Sync)>,
    fault: Mutex<Option<ReadError>>,
    zero: [u8; 32],
}

pub(super) fn verify(
    image: &IndexImage,
    packs: &dyn PackSource,
    disks: &[Disk<'_>],
    threads: usize,
    tell: Option<&(dyn Fn(ReadError) + Sync)>,
    progress: &dyn Progress,
) -> Result<(), ReadError> {
    let job = Job {
        sources: Sources::new(image, packs, disks),
        progress,
        next: AtomicU32::new(0),
        done: AtomicU32::new(0),
        stop: AtomicBool::new(false),
        tell,
        fault: Mutex::new(None),
        zero: zero_digest(),
    };
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, 64) {
            scope.spawn(|| job.work());
        }
    });
    job.fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

impl Job<'_> {
    fn work(&self) {
        if let Err(fault) = self.chunks() {
            self.stop.store(true, Ordering::Relaxed);
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        }
    }

    fn chunks(&self) -> Result<(), ReadError> {
        let image = self.sources.image;
        let io = |source| ReadError::Io { path: image.path.clone(), source };
        let mut cache = FrameCache::new(FRAMES).map_err(io)?;
        let (mut content, mut disk) = (Vec::new(), Vec::new());
        let ram_pages = image.map.layout.pages();
        let chunks = chunk_count(ram_pages);
        loop {
            let first = self.next.fetch_add(BATCH_CHUNKS, Ordering::Relaxed);
            if first >= chunks {
                return Ok(());
            }
            for chunk in first..chunks.min(first + BATCH_CHUNKS) {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if self.progress.cancelled() {
                    return Err(ReadError::Cancelled { path: image.path.clone() });
                }
                let pages = chunk_pages(chunk, ram_pages);
                let found = self.digest(pages.clone(), &mut cache, &mut content, &mut disk)?;
                if found.is_some() && image.map.chunks.get(chunk as usize) != found.as_ref() {
                    let offset = PageIndex(pages.start).offset();
                    self.wrong(ReadError::OtherContent { path: image.path.clone(), offset })?;
                }
                let done = self.done.fetch_add(pages.len() as u32, Ordering::Relaxed) + pages.len() as u32;
                self.progress.advance(Bytes::of_pages(done.into()), image.map.layout.len());
            }
        }
    }

    /// Tells of a fault and lets the job go on, or ends it with that.
    fn wrong(&self, fault: ReadError) -> Result<(), ReadError> {
        let Some(tell) = self.tell else { return Err(fault) };
        tell(fault);
        Ok(())
    }

    /// Hash of a chunk of RAM as the image has it; `None` when a part of it could not be had.
    fn digest(
        &self,
        pages: Range<u32>,
        cache: &mut FrameCache,
        content: &mut Vec<u8>,
        disk: &mut Vec<u8>,
    ) -> Result<Option<[u8; 32]>, ReadError> {
        let map = &self.sources.image.map;
        let blank = map.runs_in(pages.clone()).all(|(_, source)| matches!(source, Source::Zero | Source::Free));
        if blank {
            return Ok(Some(self.zero));
        }
        content.resize(pages.len() * PAGE_SIZE, 0);
        let (mut rest, mut whole) = (content.as_mut_slice(), true);
        for (run, source) in map.parts_in(pages) {
            let (part, later) =
                std::mem::take(&mut rest).split_at_mut_checked(run.len() * PAGE_SIZE).unwrap_or_default();
            rest = later;
            if let Err(fault) = self.fill(source, part, cache, disk) {
                self.wrong(fault)?;
                whole = false;
            }
        }
        let page = |at: usize| content.get(at * PAGE_SIZE..(at + 1) * PAGE_SIZE);
        Ok(whole.then(|| chunk_digest(content, |at| page(at).is_none_or(is_zero))))
    }

    /// The bytes of a run.
    fn fill(
        &self,
        source: Source,
        mut part: &mut [u8],
        cache: &mut FrameCache,
        disk: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        match source {
            Source::Zero | Source::Free => part.fill(0),
            Source::Data { pack, mut at } => {
                let open = self.sources.pack(pack)?;
                while !part.is_empty() {
                    let frame = cache.get(open, (pack, at / open.frame_pages()))?;
                    let held = frame.get((at % open.frame_pages()) as usize * PAGE_SIZE..).unwrap_or_default();
                    let take = held.len().min(part.len());
                    let (now, after) = part.split_at_mut(take);
                    if take == 0 {
                        let source = io::ErrorKind::UnexpectedEof.into();
                        return Err(ReadError::PackIo { pack: open.id(), source });
                    }
                    now.copy_from_slice(held.get(..take).unwrap_or_default());
                    at += (take / PAGE_SIZE) as u32;
                    part = after;
                }
            }
            Source::Disk { slot, block, hash } => {
                // A run of disk blocks lies within one chunk, so this is all of it.
                disk.resize(part.len(), 0);
                self.sources.disk_run(slot, block, hash, disk)?;
                part.copy_from_slice(disk);
            }
        }
        Ok(())
    }
}
