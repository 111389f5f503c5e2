//! A copy of a stopped guest's RAM, so that the guest can go on while its snapshot is written.

use std::io;
use std::ops::Range;
use std::thread;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, PageSet, RamSource};
use dormouse_host_sys::Buffer;
use dormouse_vmm::{PausedRam, RamFile, Restored};

/// How much one thread copies at a time: small enough that no thread is left with much when the others are done.
const PIECE: usize = 4 << 20;

/// What the VM wrote and its guest uses, in memory of our own; the rest is in the RAM file that it was restored from.
///
/// Pages that the guest did not use have the bytes of that file, or read as zero: nobody may care.
pub(super) struct CapturedRam {
    len: u64,
    held: Vec<Held>,
    bytes: Buffer,
    origin: Option<(PageSet, RamFile)>,
}

/// A run of pages that were copied.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    pages: Range<u32>,
    /// Where the first of them is in the buffer.
    at: usize,
}

impl CapturedRam {
    /// Copies what is needed of `live`: the pages that its VM wrote, but those in `free`. `buffer` is used if it is large
    /// enough.
    pub(super) fn copy(
        live: &dyn PausedRam,
        free: Option<&PageSet>,
        buffer: Buffer,
        threads: usize,
    ) -> io::Result<Self> {
        let wanted = wanted(live, free)?;
        let mut len = 0;
        let held: Vec<Held> = wanted
            .ranges()
            .map(|pages| {
                let at = len;
                len += pages.len() * PAGE_SIZE;
                Held { pages, at }
            })
            .collect();
        let mut bytes = if buffer.len() < len { Buffer::new(len)? } else { buffer };
        let (used, _) = bytes.split_at_mut(len);
        copy_pieces(live, pieces(&held, used), threads)?;
        let origin = match live.restored() {
            Some(Restored { written, file }) => Some((written.clone(), file.try_clone()?)),
            None => None,
        };
        Ok(Self { len: live.len(), held, bytes, origin })
    }

    /// How much was copied.
    pub(super) fn copied(&self) -> Bytes {
        Bytes(self.held.iter().map(|h| (h.pages.len() * PAGE_SIZE) as u64).sum())
    }

    /// The run that holds the page at `offset`, or the first one behind it.
    fn held_from(&self, offset: u64) -> Option<&Held> {
        let after = self.held.partition_point(|h| PageIndex(h.pages.end).offset() <= offset);
        self.held.get(after)
    }

    fn read_held(&self, held: &Held, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let into = usize::try_from(offset - PageIndex(held.pages.start).offset()).map_err(io::Error::other)?;
        let from = held.at + into;
        let bytes = self.bytes.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn read_other(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.origin {
            Some((_, file)) => file.read_at(offset, buf),
            None => {
                buf.fill(0);
                Ok(())
            }
        }
    }
}

/// The pages that only the VM has.
fn wanted(live: &dyn PausedRam, free: Option<&PageSet>) -> io::Result<PageSet> {
    let written = match live.restored() {
        Some(restored) => restored.written.clone(),
        None => {
            let page = |offset: u64| u32::try_from(offset / PAGE_SIZE as u64).map_err(io::Error::other);
            let mut populated = PageSet::new(page(live.len())?);
            for range in live.populated()? {
                populated.insert_range(page(range.start)?..page(range.end)?);
            }
            populated
        }
    };
    Ok(free.map_or_else(|| written.clone(), |free| written.difference(free)))
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

fn copy_pieces(live: &dyn PausedRam, pieces: Vec<Piece<'_>>, threads: usize) -> io::Result<()> {
    let left = std::sync::Mutex::new(pieces);
    let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let work = || {
        while let Some(piece) = next() {
            live.copy_pages(&piece.runs, piece.into)?;
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

impl RamSource for CapturedRam {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        while offset < end {
            let held = self.held_from(offset);
            let start = held.map_or(end, |h| PageIndex(h.pages.start).offset());
            let inside = start <= offset;
            let until = if inside { held.map_or(end, |h| PageIndex(h.pages.end).offset()) } else { start }.min(end);
            let (now, rest) = buf.split_at_mut(usize::try_from(until - offset).map_err(io::Error::other)?);
            match held.filter(|_| inside) {
                Some(held) => self.read_held(held, offset, now)?,
                None => self.read_other(offset, now)?,
            }
            offset = until;
            buf = rest;
        }
        Ok(())
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        let mut ranges = match &self.origin {
            Some((_, file)) => file.populated()?,
            None => Vec::new(),
        };
        ranges.extend(self.held.iter().map(|h| PageIndex(h.pages.start).offset()..PageIndex(h.pages.end).offset()));
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let touch = next.start <= last.end;
            if touch {
                last.end = last.end.max(next.end);
            }
            touch
        });
        Ok(ranges)
    }
}

impl PausedRam for CapturedRam {
    fn restored(&self) -> Option<Restored<'_>> {
        self.origin.as_ref().map(|(written, file)| Restored { written, file })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RAM in memory, as a VM shows it that wrote `written` since it was restored from `file`.
    struct Live {
        bytes: Vec<u8>,
        restored: Option<(PageSet, RamFile)>,
        fails: bool,
    }

    impl RamSource for Live {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if self.fails { Err(io::ErrorKind::NotFound.into()) } else { self.bytes.read_at(offset, buf) }
        }

        fn populated(&self) -> io::Result<Vec<Range<u64>>> {
            self.bytes.populated()
        }
    }

    impl PausedRam for Live {
        fn restored(&self) -> Option<Restored<'_>> {
            self.restored.as_ref().map(|(written, file)| Restored { written, file })
        }
    }

    fn set(pages: u32, members: &[u32]) -> PageSet {
        let mut set = PageSet::new(pages);
        members.iter().for_each(|page| set.insert(PageIndex(*page)));
        set
    }

    fn page_of(page: u32, salt: u8) -> Vec<u8> {
        vec![(page as u8).wrapping_mul(31).wrapping_add(salt) | 1; PAGE_SIZE]
    }

    fn live(pages: u32, written: Option<&[u32]>) -> Live {
        let Some(written) = written else {
            let bytes = (0..pages).flat_map(|p| page_of(p, 0)).collect();
            return Live { bytes, restored: None, fails: false };
        };
        let before: Vec<u8> = (0..pages).flat_map(|p| page_of(p, 100)).collect();
        let mut bytes = before.clone();
        for page in written {
            bytes[*page as usize * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&page_of(*page, 0));
        }
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, before).unwrap();
        let file = RamFile::open(path.path()).unwrap();
        Live { bytes, restored: Some((set(pages, written), file)), fails: false }
    }

    proptest! {
        #[test]
        fn a_copy_reads_like_the_ram_that_it_was_made_of(
            pages in 1u32..60,
            written in prop::option::of(prop::collection::vec(0u32..60, 0..40)),
            free in prop::option::of(prop::collection::vec(0u32..60, 0..30)),
            reads in prop::collection::vec((0u64..60 * 4096, 1usize..20_000), 1..10),
            room in 0usize..60,
            threads in 1usize..4,
        ) {
            let written: Option<Vec<u32>> = written.map(|w| w.into_iter().filter(|p| *p < pages).collect());
            let live = live(pages, written.as_deref());
            let free = free.map(|f| set(pages, &f));
            let buffer = Buffer::new(room * PAGE_SIZE).unwrap();
            let copy = CapturedRam::copy(&live, free.as_ref(), buffer, threads).unwrap();
            prop_assert_eq!(RamSource::len(&copy), RamSource::len(&live));
            for (at, len) in reads {
                let at = at % RamSource::len(&live);
                let len = len.min((RamSource::len(&live) - at) as usize);
                let (mut expected, mut found) = (vec![0; len], vec![9; len]);
                live.read_at(at, &mut expected).unwrap();
                copy.read_at(at, &mut found).unwrap();
                for (i, (e, f)) in expected.iter().zip(&found).enumerate() {
                    let page = ((at + i as u64) / 4096) as u32;
                    let is_free = free.as_ref().is_some_and(|free| free.contains(PageIndex(page)));
                    prop_assert!(is_free || e == f, "byte {} of page {}", i, page);
                }
            }
            let populated: Vec<_> = copy.populated().unwrap();
            prop_assert!(populated.windows(2).all(|w| w[0].end < w[1].start));
            let covers = |p: u32| populated.iter().any(|r| r.contains(&PageIndex(p).offset()));
            let needed = (0..pages).filter(|p| free.as_ref().is_none_or(|free| !free.contains(PageIndex(*p))));
            prop_assert!(needed.clone().all(covers));
            let written_and_used = |p: &u32| written.as_ref().is_none_or(|w| w.contains(p));
            prop_assert_eq!(copy.copied(), Bytes::of_pages(needed.filter(written_and_used).count() as u64));
            prop_assert!(copy.read_at(RamSource::len(&live) - 1, &mut [0; 2]).is_err());
        }
    }

    #[test]
    fn many_pages_are_copied_in_pieces_by_several_threads() {
        let pages = (3 * PIECE / PAGE_SIZE + 5) as u32;
        let every_third_is_not: Vec<u32> = (0..pages).filter(|p| p % 3 != 0).collect();
        let live = live(pages, Some(&every_third_is_not));
        let copy = CapturedRam::copy(&live, None, Buffer::new(0).unwrap(), 3).unwrap();
        let mut found = vec![0; live.bytes.len()];
        copy.read_at(0, &mut found).unwrap();
        assert!(found == live.bytes);
    }

    #[test]
    fn ram_that_cannot_be_read_makes_no_copy() {
        let live = Live { fails: true, ..live(4, Some(&[1, 2])) };
        assert!(CapturedRam::copy(&live, None, Buffer::new(0).unwrap(), 2).is_err());
    }
}
