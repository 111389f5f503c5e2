//! Making RAM from an image, on several threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex};

use super::IndexImage;
use super::map::Source;
use super::sources::Sources;
use crate::disk::{Disk, DiskSlot};
use crate::error::{MaterialiseError, ReadError};
use crate::output::{is_full, room};
use crate::pack::{FrameReader, OpenPack, PackSource};
use crate::progress::Progress;

/// Frames that a thread reads, decodes and writes at a time.
const BATCH_FRAMES: usize = 16;

/// What making RAM from an image took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Packs that were opened.
    pub packs: u32,
    /// Frames that were read and decoded.
    pub frames: u32,
    /// Bytes read from packs, frame tables included.
    pub pack_bytes: Bytes,
    /// Bytes read from disks.
    pub disk_bytes: Bytes,
}

/// Pages of one frame that are wanted at one place of RAM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    pack: u16,
    frame: u32,
    ram: u32,
    /// First page within the frame.
    skip: u16,
    pages: u16,
}

/// A run of disk blocks that is wanted at one place of RAM.
struct DiskPiece {
    ram: Range<u32>,
    slot: DiskSlot,
    block: u32,
    hash: u32,
}

/// What the threads share.
struct Job<'a> {
    sources: Sources<'a>,
    out: &'a File,
    progress: &'a dyn Progress,
    /// In the order of packs and frames.
    pieces: Vec<Piece>,
    /// Parts of `pieces` that are done at a time; no frame is in two.
    batches: Vec<Range<usize>>,
    disk_pieces: Vec<DiskPiece>,
    next: AtomicUsize,
    done: AtomicU64,
    frames: AtomicU64,
    pack_bytes: AtomicU64,
    stop: AtomicBool,
    fault: Mutex<Option<MaterialiseError>>,
}

pub(super) fn materialise(
    image: &IndexImage,
    packs: &dyn PackSource,
    disks: &[Disk<'_>],
    out: &File,
    threads: usize,
    progress: &dyn Progress,
) -> Result<ReadCost, MaterialiseError> {
    let output = |source| MaterialiseError::Output { source };
    let len = out.metadata().map_err(output)?.len();
    if len != 0 {
        return Err(MaterialiseError::NotEmpty { len: Bytes(len) });
    }
    let made = out.set_len(image.map.layout.len().0).map_err(|error| output_fault(image, out, error)).and_then(|()| {
        let job = Job::new(image, packs, disks, out, progress)?;
        thread::scope(|scope| {
            for _ in 0..threads.clamp(1, 64) {
                scope.spawn(|| job.work());
            }
        });
        job.finish()
    });
    if made.is_err() {
        // The fault is what matters to the caller; a file that can not even be emptied is their rubbish to remove.
        let _ = out.set_len(0);
    }
    made
}

impl<'a> Job<'a> {
    fn new(
        image: &'a IndexImage,
        packs: &'a dyn PackSource,
        disks: &'a [Disk<'a>],
        out: &'a File,
        progress: &'a dyn Progress,
    ) -> Result<Self, MaterialiseError> {
        let sources = Sources::new(image, packs, disks);
        let (mut pieces, mut disk_pieces) = (Vec::new(), Vec::new());
        for (ram, source) in image.map.all_runs() {
            match source {
                Source::Zero | Source::Free => {}
                Source::Data { pack, at } => {
                    let frame_pages = sources.pack(pack)?.frame_pages();
                    cut(ram, pack, at, frame_pages, &mut pieces);
                }
                Source::Disk { slot, block, hash } => disk_pieces.push(DiskPiece { ram, slot, block, hash }),
            }
        }
        pieces.sort_unstable();
        let batches = batches(&pieces);
        Ok(Self {
            sources,
            out,
            progress,
            pieces,
            batches,
            disk_pieces,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            pack_bytes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            fault: Mutex::new(None),
        })
    }

    fn finish(self) -> Result<ReadCost, MaterialiseError> {
        if let Some(fault) = self.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(fault);
        }
        let tables: u64 = self.sources.opened().map(OpenPack::overhead).sum();
        let disk_pages: u64 = self.disk_pieces.iter().map(|piece| piece.ram.len() as u64).sum();
        Ok(ReadCost {
            packs: self.sources.opened().count() as u32,
            frames: u32::try_from(self.frames.into_inner()).unwrap_or(u32::MAX),
            pack_bytes: Bytes(self.pack_bytes.into_inner() + tables),
            disk_bytes: Bytes::of_pages(disk_pages),
        })
    }

    fn work(&self) {
        if let Err(fault) = self.batches_and_disks() {
            self.stop.store(true, Ordering::Relaxed);
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        }
    }

    fn batches_and_disks(&self) -> Result<(), MaterialiseError> {
        let codec = |source| MaterialiseError::Output { source };
        let mut reader = FrameReader::new().map_err(codec)?;
        let mut raw = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if self.progress.cancelled() {
                return Err(ReadError::Cancelled { path: self.sources.image.path.clone() }.into());
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let pages = if let Some(batch) = self.batches.get(number) {
                self.frames_of(self.pieces.get(batch.clone()).unwrap_or_default(), &mut reader, &mut raw)?
            } else if let Some(piece) = self.disk_pieces.get(number - self.batches.len()) {
                raw.resize(piece.ram.len() * PAGE_SIZE, 0);
                self.sources.disk_run(piece.slot, piece.block, piece.hash, &mut raw)?;
                self.put(piece.ram.start, &raw)?;
                piece.ram.len() as u64
            } else {
                break;
            };
            let done = self.done.fetch_add(pages, Ordering::Relaxed) + pages;
            self.progress.advance(Bytes::of_pages(done), self.sources.image.summary.content());
        }
        Ok(())
    }

    /// Reads the frames of these pieces, all of one pack, and puts their pages where they belong.
    fn frames_of(
        &self,
        pieces: &[Piece],
        reader: &mut FrameReader,
        raw: &mut Vec<u8>,
    ) -> Result<u64, MaterialiseError> {
        let mut pages = 0;
        // Neighbouring frames are read at once; frames that nobody wants are not read.
        for pieces in pieces.chunk_by(|a, b| b.frame - a.frame <= 1) {
            let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { continue };
            let pack = self.sources.pack(first.pack)?;
            let frames = first.frame..last.frame + 1;
            self.frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
            let read = reader.read(pack, frames, raw)?;
            self.pack_bytes.fetch_add(read, Ordering::Relaxed);
            let place = |piece: &Piece| (piece.frame - first.frame) * pack.frame_pages() + u32::from(piece.skip);
            let goes_on =
                |a: &Piece, b: &Piece| b.ram == a.ram + u32::from(a.pages) && place(b) == place(a) + u32::from(a.pages);
            for joined in pieces.chunk_by(goes_on) {
                let Some(start) = joined.first() else { continue };
                let count: usize = joined.iter().map(|piece| usize::from(piece.pages)).sum();
                let from = place(start) as usize * PAGE_SIZE;
                let bytes = raw.get(from..from + count * PAGE_SIZE).ok_or_else(|| ReadError::PackIo {
                    pack: pack.id(),
                    source: io::ErrorKind::UnexpectedEof.into(),
                })?;
                self.put(start.ram, bytes)?;
                pages += count as u64;
            }
        }
        Ok(pages)
    }

    /// Writes checked bytes.
    fn put(&self, page: u32, bytes: &[u8]) -> Result<(), MaterialiseError> {
        let written = self.out.write_all_at(bytes, PageIndex(page).offset());
        written.map_err(|error| output_fault(self.sources.image, self.out, error))
    }
}

/// Cuts a run at the borders of frames.
fn cut(ram: Range<u32>, pack: u16, at: u32, frame_pages: u32, out: &mut Vec<Piece>) {
    let (mut ram, mut at, mut left) = (ram.start, at, ram.len() as u32);
    while left > 0 {
        let skip = at % frame_pages;
        let pages = left.min(frame_pages - skip);
        // Both are at most the pages of a frame.
        out.push(Piece { pack, frame: at / frame_pages, ram, skip: skip as u16, pages: pages as u16 });
        (ram, at, left) = (ram + pages, at + pages, left - pages);
    }
}

/// Parts of at most [`BATCH_FRAMES`] frames of one pack, that share no frame.
fn batches(pieces: &[Piece]) -> Vec<Range<usize>> {
    let (mut out, mut start, mut frames) = (Vec::new(), 0, 0);
    for (at, pair) in pieces.windows(2).enumerate() {
        let [now, next] = pair else { continue };
        frames += usize::from((now.pack, now.frame) != (next.pack, next.frame));
        if now.pack != next.pack || frames == BATCH_FRAMES {
            out.push(start..at + 1);
            (start, frames) = (at + 1, 0);
        }
    }
    if start < pieces.len() {
        out.push(start..pieces.len());
    }
    out
}

fn output_fault(image: &IndexImage, out: &File, error: io::Error) -> MaterialiseError {
    if is_full(&error) {
        MaterialiseError::NoSpace { needed: image.summary.content(), available: room(out) }
    } else {
        MaterialiseError::Output { source: error }
    }
}
