//! Copying pages into a buffer, by several threads.

use std::io;
use std::ops::Range;
use std::thread;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet};
use dormouse_vmm::PausedRam;

/// How much one thread copies at a time: small enough that no thread is left with much when the others are done.
pub(super) const PIECE: usize = 4 << 20;

/// A run of pages that were copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pages: Range<u32>,
    /// Where the first of them is in its buffer.
    pub(super) at: usize,
}

impl Held {
    /// A part of it.
    pub(super) fn part(&self, pages: Range<u32>) -> Self {
        let skipped = pages.start.saturating_sub(self.pages.start);
        Self { pages, at: self.at + skipped as usize * PAGE_SIZE }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Where its first byte is in the RAM file.
    pub(super) fn start(&self) -> u64 {
        PageIndex(self.pages.start).offset()
    }

    /// Where the first byte behind it is in the RAM file.
    pub(super) fn end(&self) -> u64 {
        PageIndex(self.pages.end).offset()
    }
}

/// Places for all of these pages in a buffer, one run after the other, and how long that has to be.
pub(super) fn places_for(pages: &PageSet) -> (Vec<Held>, usize) {
    let mut len = 0;
    let places = pages.ranges().map(|pages| {
        let held = Held { pages, at: len };
        len += held.len();
        held
    });
    (places.collect(), len)
}

/// Fills `into` with the pages that `places` are for, as [`places_for`] gave them.
pub(super) fn copy(ram: &dyn PausedRam, places: &[Held], into: &mut [u8], threads: usize) -> io::Result<()> {
    copy_pieces(ram, pieces(places, into), threads)
}

/// Work for one thread at a time: pages, and where they go.
struct Piece<'a> {
    runs: Vec<Range<u32>>,
    into: &'a mut [u8],
}

fn pieces<'a>(held: &[Held], mut room: &'a mut [u8]) -> Vec<Piece<'a>> {
    let at_most = PIECE / PAGE_SIZE;
    let (mut pieces, mut runs, mut pages) = (Vec::new(), Vec::new(), 0);
    let mut close = |runs: &mut Vec<Range<u32>>, pages: &mut usize| {
        let (into, rest) = std::mem::take(&mut room).split_at_mut(*pages * PAGE_SIZE);
        room = rest;
        pieces.push(Piece { runs: std::mem::take(runs), into });
        *pages = 0;
    };
    for run in held {
        let mut run = run.pages.clone();
        while !run.is_empty() {
            let take = run.len().min(at_most - pages);
            let middle = run.start + u32::try_from(take).unwrap_or(u32::MAX);
            runs.push(run.start..middle);
            run.start = middle;
            pages += take;
            if pages == at_most {
                close(&mut runs, &mut pages);
            }
        }
    }
    if pages > 0 {
        close(&mut runs, &mut pages);
    }
    pieces
}

fn copy_pieces(ram: &dyn PausedRam, pieces: Vec<Piece<'_>>, threads: usize) -> io::Result<()> {
    let left = std::sync::Mutex::new(pieces);
    let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let work = || {
        while let Some(piece) = next() {
            ram.copy_pages(&piece.runs, piece.into)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |done, other| {
            done.and(other.join().unwrap_or_else(|_| Err(io::Error::other("a copying thread panicked"))))
        })
    })
}
