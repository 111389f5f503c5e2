//! RAM that is copied while its VM still runs, so that little is left to copy while it stands still. Live migration does the same
//! (Clark et al., "Live Migration of Virtual Machines", NSDI 2005).

use std::io;

use dormouse_guest_mem::{Bytes, PageSet};
use dormouse_host_sys::Buffer;
use dormouse_vmm::FollowedRam;

use super::pieces::{Held, copy, places_for};
use super::wanted;

/// A copy of a running VM's pages, and what tells which of them it has written since.
pub(in crate::snapshot) struct Ahead {
    ram: Box<dyn FollowedRam>,
    copied: Copied,
}

/// What was copied early and is still what the VM has.
pub(in crate::snapshot) struct Copied {
    pub(super) current: PageSet,
    /// Of all that was copied, current or not.
    places: Vec<Held>,
    pub(super) bytes: Buffer,
}

impl Ahead {
    /// Copies the pages that the VM has written, but those in `free`, which may be a guess.
    pub(in crate::snapshot) fn copy(
        ram: Box<dyn FollowedRam>,
        free: Option<&PageSet>,
        threads: usize,
    ) -> io::Result<Self> {
        let current = wanted(&*ram, free)?;
        let (places, len) = places_for(&current);
        let mut bytes = Buffer::new(len)?;
        // What cannot be taken now is taken when it is written to.
        let _ = bytes.populate(len);
        copy(&*ram, &places, &mut bytes, threads)?;
        Ok(Self { ram, copied: Copied { current, places, bytes } })
    }

    /// Copies again those of the pages that the VM has written since.
    pub(in crate::snapshot) fn catch_up(&mut self) -> io::Result<()> {
        let Self { ram, copied } = self;
        let again = ram.written_since()?.intersection(&copied.current);
        for held in copied.places_of(&again) {
            let into = copied.bytes.get_mut(held.at..held.at + held.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            ram.read_at(held.start(), into)?;
        }
        Ok(())
    }

    /// How much was copied.
    pub(in crate::snapshot) fn copied(&self) -> Bytes {
        self.copied.current.bytes()
    }

    /// How much more the VM has written, as far as is known.
    pub(in crate::snapshot) fn missing(&self) -> io::Result<Bytes> {
        Ok(wanted(&*self.ram, None)?.difference(&self.copied.current).bytes())
    }

    /// Of a VM that stands still: its RAM, and what of the copy it has not written since.
    pub(in crate::snapshot) fn finish(self) -> io::Result<(Box<dyn FollowedRam>, Copied)> {
        let Self { mut ram, mut copied } = self;
        copied.current = copied.current.difference(&ram.written_since()?);
        Ok((ram, copied))
    }
}

impl Copied {
    /// The copies of those of the `wanted` pages that are current.
    pub(super) fn kept(&self, wanted: &PageSet) -> Vec<Held> {
        self.places_of(&self.current.intersection(wanted))
    }

    /// Where these pages are, all of which were copied: so each run of them lies within one of the copied runs.
    fn places_of(&self, pages: &PageSet) -> Vec<Held> {
        let place = |pages: std::ops::Range<u32>| {
            let after = self.places.partition_point(|held| held.pages.end <= pages.start);
            self.places.get(after).map(|held| held.part(pages))
        };
        pages.ranges().filter_map(place).collect()
    }
}
