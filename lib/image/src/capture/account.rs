//! The first pass: chunks in parallel, in any order, then what they have in common.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use dormouse_guest_mem::{Bytes, PageIndex, PageSet};

use super::chunk::ChunkReader;
use super::draft::{ChunkDraft, DraftSource};
use super::shared::Shared;
use super::{Accounting, Capture, PageCounts, duplicates};
use crate::error::WriteError;
use crate::image::chunk::{chunk_count, chunk_pages, ram_digest};
use crate::image::map::ClassRun;
use crate::page_hash::PageHash;
use crate::progress::Progress;

/// What the threads give back.
#[derive(Default)]
struct Found {
    drafts: Vec<(u32, ChunkDraft)>,
    hashes: Vec<(PageHash, u32)>,
    counts: PageCounts,
}

struct Job<'a> {
    shared: Shared<'a>,
    progress: &'a dyn Progress,
    ram_pages: u32,
    next: AtomicU32,
    done: AtomicU32,
    stop: AtomicBool,
    found: Mutex<Found>,
}

pub(super) fn account(
    capture: &Capture<'_>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Accounting, WriteError> {
    let job = Job {
        shared: Shared::new(capture)?,
        progress,
        ram_pages: capture.layout.pages(),
        next: AtomicU32::new(0),
        done: AtomicU32::new(0),
        stop: AtomicBool::new(false),
        found: Mutex::default(),
    };
    let worked: Result<Vec<()>, WriteError> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, 64)).map(|_| scope.spawn(|| job.work())).collect();
        let died = |_| Err(WriteError::Compress { source: io::Error::other("an accounting thread died") });
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect()
    });
    worked?;
    let packs = job.shared.parent.as_ref().map(|parent| parent.map.packs.clone()).unwrap_or_default();
    let Found { mut drafts, hashes, mut counts } = job.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    drafts.sort_unstable_by_key(|(number, _)| *number);
    let chunks: Vec<_> = drafts.into_iter().map(|(_, draft)| draft).collect();
    let duplicates = duplicates::find(capture.ram, hashes, threads, progress)?;
    counts.duplicate = duplicates.len() as u32;
    counts.data -= counts.duplicate;

    let mut data = new_pages(&chunks, capture.layout.pages());
    duplicates.iter().for_each(|(page, _)| data.remove(PageIndex(*page)));
    let digests: Vec<_> = chunks.iter().map(|chunk| chunk.digest).collect();
    Ok(Accounting {
        layout: capture.layout.clone(),
        parent_packs: packs,
        classes: classes(capture),
        ram_digest: ram_digest(capture.layout, &digests),
        chunks,
        duplicates,
        data,
        counts,
    })
}

impl Job<'_> {
    fn work(&self) -> Result<(), WriteError> {
        self.chunks().inspect_err(|_| self.stop.store(true, Ordering::Relaxed))
    }

    fn chunks(&self) -> Result<(), WriteError> {
        let mut reader = ChunkReader::new(&self.shared);
        let mut drafts = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= chunk_count(self.ram_pages) {
                break;
            }
            if self.progress.cancelled() {
                return Err(WriteError::Cancelled);
            }
            let pages = chunk_pages(number, self.ram_pages);
            drafts.push((number, reader.chunk(pages.clone())?));
            if !reader.hashes.is_empty() {
                self.found().hashes.append(&mut reader.hashes);
            }
            let done = self.done.fetch_add(pages.len() as u32, Ordering::Relaxed) + pages.len() as u32;
            self.progress.advance(Bytes::of_pages(done.into()), self.shared.capture.layout.len());
        }
        let mut found = self.found();
        found.drafts.append(&mut drafts);
        found.counts.add(&reader.counts);
        Ok(())
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pages that are nowhere else.
fn new_pages(chunks: &[ChunkDraft], pages: u32) -> PageSet {
    let mut set = PageSet::new(pages);
    let mut at = 0;
    for run in chunks.iter().flat_map(|chunk| &chunk.runs) {
        if run.source == DraftSource::New {
            set.insert_range(at..at + u32::from(run.pages));
        }
        at += u32::from(run.pages);
    }
    set
}

/// The classes of all pages.
fn classes(capture: &Capture<'_>) -> Vec<ClassRun> {
    let mut runs: Vec<ClassRun> = Vec::new();
    for start in 0..capture.layout.pages() {
        let class = (capture.class_of)(PageIndex(start));
        if runs.last().is_none_or(|last| last.class != class) {
            runs.push(ClassRun { start, class });
        }
    }
    runs
}
