//! Writing a pack: frames are read and compressed on all threads, and written in order.
//!
//! Batch `n` of frames is made by thread `n mod threads`, and the writer takes from the threads in turn: so the order is
//! kept without buffering what came too early. Every channel is bounded, so a slow disk slows the threads down instead of
//! filling memory.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{io, thread};

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use zerocopy::IntoBytes;

use super::wire::{
    Extent, FOOTER_LEN, FOOTER_MAGIC, Footer, FrameRecord, HEADER_LEN, HEADER_MAGIC, Header, RECORD_LEN,
};
use super::{MAX_FRAME_PAGES, MAX_FRAMES, PackRef, SealedPack, VERSION, id_of};
use crate::capture::StoreOptions;
use crate::codec::{CodedFrame, Encoder};
use crate::error::WriteError;
use crate::output::{Output, OutputFault};
use crate::progress::Progress;

/// Pages that a thread reads and compresses at a time, rounded to whole frames.
const BATCH_PAGES: u32 = 256;
/// Batches that may wait behind each thread.
const QUEUE: usize = 2;

/// Gives the pages of a pack that is to be written.
pub(crate) trait Feed: Sync {
    /// How many there are.
    fn pages(&self) -> u32;

    /// For one thread to read with.
    ///
    /// # Errors
    /// As for reading.
    fn reader(&self) -> Result<Box<dyn FeedReader + '_>, WriteError>;
}

/// Reads pages of a [`Feed`].
pub(crate) trait FeedReader {
    /// Fills `buf` with the pages at these places of the pack.
    fn read(&mut self, pages: Range<u32>, buf: &mut [u8]) -> Result<(), WriteError>;
}

/// A pack that was written.
#[derive(Debug)]
pub(crate) struct NewPack {
    pub(crate) sealed: SealedPack,
    pub(crate) pages: u32,
}

/// Some frames, one after the other; their offsets are within `stored`.
#[derive(Default)]
struct Batch {
    stored: Vec<u8>,
    frames: Vec<CodedFrame>,
}

/// Writes a pack into the empty file `out`. `None`, and nothing is written, if the feed has no pages. `more` is what else
/// the caller is going to write to the same file system, for the message when that is full.
pub(crate) fn write_pack(
    feed: &dyn Feed,
    out: &File,
    more: u64,
    options: &StoreOptions,
    progress: &dyn Progress,
) -> Result<Option<NewPack>, WriteError> {
    check(options)?;
    let mut output = Output::new(out)?;
    if feed.pages() == 0 {
        return Ok(None);
    }
    let frames = feed.pages().div_ceil(options.frame_pages);
    if frames > MAX_FRAMES {
        return Err(WriteError::TooFragmented);
    }
    let job = Job { feed, options, frames, progress, done: AtomicU64::new(0) };
    let written = thread::scope(|scope| {
        let lanes: Vec<_> = (0..options.threads)
            .map(|lane| {
                let (sender, receiver) = sync_channel(QUEUE);
                let job = &job;
                scope.spawn(move || job.compress(lane, &sender));
                receiver
            })
            .collect();
        write_all(&mut output, &job, &lanes)
    });
    let sealed = |named| {
        let sealed = SealedPack::new(named, out).map_err(|source| WriteError::Output { source })?;
        Ok(Some(NewPack { sealed, pages: feed.pages() }))
    };
    match written {
        Ok(named) => sealed(named),
        Err(Fault::Failed(error)) => Err(error),
        Err(Fault::Output(OutputFault::Io(source))) => Err(WriteError::Output { source }),
        Err(Fault::Output(OutputFault::Full)) => {
            let most = u64::from(feed.pages()) * PAGE_SIZE as u64 + u64::from(frames) * RECORD_LEN;
            Err(output.no_space(HEADER_LEN + most + FOOTER_LEN + more))
        }
    }
}

fn check(options: &StoreOptions) -> Result<(), WriteError> {
    let in_range = (1..=MAX_FRAME_PAGES).contains(&options.frame_pages) && (1..=64).contains(&options.threads);
    if in_range {
        Ok(())
    } else {
        Err(WriteError::BadOptions { frame_pages: options.frame_pages, threads: options.threads })
    }
}

enum Fault {
    Failed(WriteError),
    Output(OutputFault),
}

impl From<OutputFault> for Fault {
    fn from(fault: OutputFault) -> Self {
        Self::Output(fault)
    }
}

struct Job<'a> {
    feed: &'a dyn Feed,
    options: &'a StoreOptions,
    frames: u32,
    progress: &'a dyn Progress,
    done: AtomicU64,
}

impl Job<'_> {
    fn batch_frames(&self) -> u32 {
        (BATCH_PAGES / self.options.frame_pages).max(1)
    }

    /// Makes this lane's batches until there are no more, or nobody wants them.
    fn compress(&self, lane: usize, out: &SyncSender<Result<Batch, WriteError>>) {
        let (batch_frames, threads) = (self.batch_frames(), self.options.threads);
        let batches = (0..self.frames).step_by(batch_frames as usize).skip(lane).step_by(threads);
        let mut tools = Encoder::new(self.options.codec, self.options.level)
            .map_err(|source| WriteError::Compress { source })
            .and_then(|encoder| Ok((encoder, self.feed.reader()?)));
        let mut raw = Vec::new();
        for first in batches {
            let frames = first..self.frames.min(first + batch_frames);
            let batch = match &mut tools {
                Ok((encoder, reader)) => self.batch(frames, encoder, &mut **reader, &mut raw),
                Err(error) => Err(std::mem::replace(error, WriteError::Cancelled)),
            };
            if out.send(batch).is_err() {
                return;
            }
        }
    }

    fn batch(
        &self,
        frames: Range<u32>,
        encoder: &mut Encoder,
        reader: &mut dyn FeedReader,
        raw: &mut Vec<u8>,
    ) -> Result<Batch, WriteError> {
        if self.progress.cancelled() {
            return Err(WriteError::Cancelled);
        }
        let total = self.feed.pages();
        let pages =
            frames.start * self.options.frame_pages..total.min(frames.end.saturating_mul(self.options.frame_pages));
        raw.resize(pages.len() * PAGE_SIZE, 0);
        reader.read(pages, raw)?;
        let mut batch = Batch::default();
        for frame in raw.chunks(self.options.frame_pages as usize * PAGE_SIZE) {
            let coded = encoder.append(frame, &mut batch.stored);
            batch.frames.push(coded.map_err(|source| WriteError::Compress { source })?);
        }
        let done = self.done.fetch_add(raw.len() as u64, Ordering::Relaxed) + raw.len() as u64;
        self.progress.advance(Bytes(done), Bytes::of_pages(total.into()));
        Ok(batch)
    }
}

fn write_all(
    output: &mut Output<'_>,
    job: &Job<'_>,
    lanes: &[Receiver<Result<Batch, WriteError>>],
) -> Result<PackRef, Fault> {
    let header = Header {
        magic: HEADER_MAGIC,
        version: VERSION.into(),
        flags: 0.into(),
        page_size: (PAGE_SIZE as u32).into(),
        frame_pages: job.options.frame_pages.into(),
        reserved: [0; 40],
    };
    output.put(header.as_bytes())?;
    let mut table = Vec::with_capacity(job.frames as usize * RECORD_LEN as usize);
    // The first closed lane is the end: batches are dealt out in turn, so no later lane can hold one more.
    for batch in lanes.iter().cycle().map_while(|lane| lane.recv().ok()) {
        let Batch { stored, frames } = batch.map_err(Fault::Failed)?;
        output.put(&stored)?;
        for frame in frames {
            let record = FrameRecord {
                stored_len: frame.stored_len.into(),
                encoding: frame.encoding.code(),
                reserved: [0; 3],
                checksum: frame.checksum,
            };
            table.extend_from_slice(record.as_bytes());
        }
    }
    if table.len() as u64 != u64::from(job.frames) * RECORD_LEN {
        let source = io::Error::other("a compressing thread died");
        return Err(Fault::Failed(WriteError::Compress { source }));
    }
    let pages = job.feed.pages();
    let extent = Extent { table_offset: output.position().into(), frames: job.frames.into(), pages: pages.into() };
    let id = id_of(&header, &table, &extent);
    let footer = Footer { extent, id: id.0.0, reserved: [0; 8], magic: FOOTER_MAGIC };
    table.extend_from_slice(footer.as_bytes());
    output.put(&table)?;
    Ok(PackRef { id, len: Bytes(output.position()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages that nobody may read.
    struct TooMany;

    impl Feed for TooMany {
        fn pages(&self) -> u32 {
            MAX_FRAMES + 1
        }

        fn reader(&self) -> Result<Box<dyn FeedReader + '_>, WriteError> {
            Err(WriteError::Cancelled)
        }
    }

    #[test]
    fn a_pack_with_more_frames_than_a_reader_takes_is_not_begun() {
        let out = tempfile::tempfile().unwrap();
        let options = StoreOptions { frame_pages: 1, ..StoreOptions::default() };
        let error = write_pack(&TooMany, &out, 0, &options, &()).unwrap_err();
        assert!(matches!(error, WriteError::TooFragmented), "{error}");
        assert_eq!(out.metadata().unwrap().len(), 0);
    }
}
