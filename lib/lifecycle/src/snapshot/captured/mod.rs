//! A copy of a stopped guest's RAM, so that the guest can go on while its snapshot is written.

mod ahead;
mod pieces;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageSet, RamSource};
use dormouse_host_sys::Buffer;
use dormouse_vmm::{PausedRam, RamFile, Restored};

pub(super) use ahead::{Ahead, Copied};
use pieces::{Held, copy, places_for};

/// What the VM wrote and its guest uses, in memory of our own; the rest is in the RAM file that it was restored from.
///
/// Pages that the guest did not use have the bytes of that file, or read as zero: nobody may care.
pub(super) struct CapturedRam {
    len: u64,
    /// Ascending, each with the buffer that it is in.
    held: Vec<(Held, When)>,
    early: Buffer,
    late: Buffer,
    origin: Option<(PageSet, RamFile)>,
}

/// When a page was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While the VM still ran, and not written since.
    Early,
    /// While it stood still.
    Late,
}

impl CapturedRam {
    /// Copies what is needed of `live`: the pages that its VM wrote, but those in `free`, and those that `ahead` has. `buffer` is
    /// used if it is large enough.
    pub(super) fn copy(
        live: &dyn PausedRam,
        free: Option<&PageSet>,
        ahead: Option<Copied>,
        buffer: Buffer,
        threads: usize,
    ) -> io::Result<Self> {
        let wanted = wanted(live, free)?;
        let (missing, kept, early) = match ahead {
            Some(ahead) => (wanted.difference(&ahead.current), ahead.kept(&wanted), ahead.bytes),
            None => (wanted, Vec::new(), Buffer::new(0)?),
        };
        let (places, len) = places_for(&missing);
        let mut late = if buffer.len() < len { Buffer::new(len)? } else { buffer };
        copy(live, &places, late.split_at_mut(len).0, threads)?;
        let early_ones = kept.into_iter().map(|held| (held, When::Early));
        let mut held: Vec<_> = early_ones.chain(places.into_iter().map(|held| (held, When::Late))).collect();
        held.sort_unstable_by_key(|(held, _)| held.pages.start);
        let origin = match live.restored() {
            Some(Restored { written, file }) => Some((written.clone(), file.try_clone()?)),
            None => None,
        };
        Ok(Self { len: live.len(), held, early, late, origin })
    }

    /// How much was copied now, and how much of what was copied ahead is used.
    pub(super) fn copied(&self) -> (Bytes, Bytes) {
        let of = |at| Bytes(self.held.iter().filter(|(_, when)| *when == at).map(|(held, _)| held.len() as u64).sum());
        (of(When::Late), of(When::Early))
    }

    /// The run that holds the page at `offset`, or the first one behind it.
    fn held_from(&self, offset: u64) -> Option<&(Held, When)> {
        let after = self.held.partition_point(|(held, _)| held.end() <= offset);
        self.held.get(after)
    }

    fn read_held(&self, (held, when): &(Held, When), offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let into = usize::try_from(offset - held.start()).map_err(io::Error::other)?;
        let from = held.at + into;
        let bytes = match when {
            When::Early => &self.early,
            When::Late => &self.late,
        };
        buf.copy_from_slice(bytes.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
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

impl RamSource for CapturedRam {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        while offset < end {
            let held = self.held_from(offset);
            let start = held.map_or(end, |(held, _)| held.start());
            let inside = start <= offset;
            let until = if inside { held.map_or(end, |(held, _)| held.end()) } else { start }.min(end);
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
        ranges.extend(self.held.iter().map(|(held, _)| held.start()..held.end()));
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
