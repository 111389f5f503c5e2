use std::collections::VecDeque;

use dormouse_guest_mem::PageIndex;
use dormouse_vmm::FollowedRam;
use proptest::prelude::*;

use super::pieces::PIECE;
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

/// RAM that changes with every look at what was written: each of `to_come` are pages that get new bytes.
struct Changing {
    live: Live,
    to_come: VecDeque<Vec<u32>>,
}

impl FollowedRam for Changing {
    fn written_since(&mut self) -> io::Result<PageSet> {
        let Live { bytes, restored: Some((written, _)), fails: false } = &mut self.live else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let now = self.to_come.pop_front().unwrap_or_default();
        for page in &now {
            bytes[*page as usize * PAGE_SIZE..][..PAGE_SIZE].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            written.insert(PageIndex(*page));
        }
        Ok(set(written.capacity(), &now))
    }
}

impl RamSource for Changing {
    fn len(&self) -> u64 {
        RamSource::len(&self.live)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.live.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        self.live.populated()
    }
}

impl PausedRam for Changing {
    fn restored(&self) -> Option<Restored<'_>> {
        self.live.restored()
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
        let copy = CapturedRam::copy(&live, free.as_ref(), None, buffer, threads).unwrap();
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
        prop_assert_eq!(copy.copied(), (Bytes::of_pages(needed.filter(written_and_used).count() as u64), Bytes(0)));
        prop_assert!(copy.read_at(RamSource::len(&live) - 1, &mut [0; 2]).is_err());
    }

    #[test]
    fn what_was_copied_ahead_is_used_unless_it_was_written_since(
        pages in 1u32..60,
        written in prop::collection::vec(0u32..60, 0..40),
        likely_free in prop::option::of(prop::collection::vec(0u32..60, 0..30)),
        free in prop::option::of(prop::collection::vec(0u32..60, 0..30)),
        to_come in prop::collection::vec(prop::collection::vec(0u32..60, 0..20), 1..4),
        room in 0usize..60,
        threads in 1usize..4,
    ) {
        let within = |members: Vec<u32>| members.into_iter().filter(|p| *p < pages).collect::<Vec<u32>>();
        let sets = |members: Option<Vec<u32>>| members.map(|members| set(pages, &members));
        let (likely_free, free) = (sets(likely_free), sets(free));
        let written = within(written);
        let to_come: VecDeque<_> = to_come.into_iter().map(within).collect();
        let (rounds, last) = (to_come.len() - 1, set(pages, &to_come[to_come.len() - 1]));
        let changing = Changing { live: live(pages, Some(&written)), to_come };

        let mut ahead = Ahead::copy(Box::new(changing), likely_free.as_ref(), threads).unwrap();
        for _ in 0..rounds {
            ahead.catch_up().unwrap();
        }
        let (copied, missing) = (ahead.copied(), ahead.missing().unwrap());
        let (now, ahead) = ahead.finish().unwrap();
        let early = set(pages, &written).difference(likely_free.as_ref().unwrap_or(&PageSet::new(pages)));
        prop_assert_eq!(copied, early.bytes());
        let copy = CapturedRam::copy(&*now, free.as_ref(), Some(ahead), Buffer::new(room * PAGE_SIZE).unwrap(), threads).unwrap();
        let (mut expected, mut found) = (vec![0; pages as usize * PAGE_SIZE], vec![9; pages as usize * PAGE_SIZE]);
        now.read_at(0, &mut expected).unwrap();
        copy.read_at(0, &mut found).unwrap();
        for (page, (expected, found)) in expected.chunks(PAGE_SIZE).zip(found.chunks(PAGE_SIZE)).enumerate() {
            let is_free = free.as_ref().is_some_and(|free| free.contains(PageIndex(page as u32)));
            prop_assert!(is_free || expected == found, "page {}", page);
        }
        let needed = now.restored().unwrap().written.difference(free.as_ref().unwrap_or(&PageSet::new(pages)));
        let used = early.difference(&last).intersection(&needed);
        prop_assert_eq!(copy.copied(), (needed.difference(&used).bytes(), used.bytes()));
        prop_assert!(missing.0 <= now.restored().unwrap().written.difference(&early).bytes().0);
    }
}

#[test]
fn many_pages_are_copied_in_pieces_by_several_threads() {
    let pages = (3 * PIECE / PAGE_SIZE + 5) as u32;
    let every_third_is_not: Vec<u32> = (0..pages).filter(|p| p % 3 != 0).collect();
    let live = live(pages, Some(&every_third_is_not));
    let copy = CapturedRam::copy(&live, None, None, Buffer::new(0).unwrap(), 3).unwrap();
    let mut found = vec![0; live.bytes.len()];
    copy.read_at(0, &mut found).unwrap();
    assert!(found == live.bytes);
}

#[test]
fn ram_that_cannot_be_read_makes_no_copy() {
    let live = Live { fails: true, ..live(4, Some(&[1, 2])) };
    assert!(CapturedRam::copy(&live, None, None, Buffer::new(0).unwrap(), 2).is_err());
}
