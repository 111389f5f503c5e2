//! Generations of changes, against plain bytes as the model: whatever is paused, resumed, forked, compacted and thrown
//! away, every image gives exactly the RAM that was paused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, is_zero};
use dormouse_image::{Codec, CompactionPolicy, DiskSlot, PageKind, Parent, StoreOptions, compact};
use proptest::prelude::*;
use support::lab::*;
use support::*;

/// Generations in each of the cases.
const GENERATIONS: u32 = 42;
const CASES: u32 = 25;
const BASE_BLOCKS: u32 = 200;
const OVERLAY_BLOCKS: u32 = 120;

static SEEN: AtomicU32 = AtomicU32::new(0);

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32 % sides
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.roll(n) == 0
    }
}

/// What a snapshot is, and what it must give.
struct Generation {
    snapshot: Snapshot,
    overlay: TestDisk,
    ram: Vec<u8>,
}

struct World {
    dice: Dice,
    lab: Lab,
    pages: u32,
    base: TestDisk,
    alive: Vec<Generation>,
    template: BTreeSet<dormouse_image::PackId>,
    made: u32,
}

impl World {
    fn new(seed: u64, pages: u32) -> Self {
        let mut dice = Dice(seed | 1);
        let lab = Lab::new();
        let mut content: Vec<u8> = (0..BASE_BLOCKS).flat_map(|block| disk_block(&mut dice, 1000 + block)).collect();
        // A block that is there twice, and one that is zero.
        content.copy_within(0..PAGE_SIZE, 7 * PAGE_SIZE);
        content[9 * PAGE_SIZE..10 * PAGE_SIZE].fill(0);
        let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &content);
        Self { dice, lab, pages, base, alive: Vec::new(), template: BTreeSet::new(), made: 0 }
    }

    /// Overlay of the next generation: that of the parent with some blocks changed.
    fn overlay(&mut self, parent: Option<usize>) -> TestDisk {
        let mut content = match parent {
            Some(parent) => std::fs::read(&self.alive[parent].overlay.path).unwrap(),
            None => vec![0; OVERLAY_BLOCKS as usize * PAGE_SIZE],
        };
        for _ in 0..self.dice.roll(20) {
            let (block, seed) = (self.dice.roll(OVERLAY_BLOCKS), 5000 + self.dice.roll(500));
            page_mut(&mut content, block).copy_from_slice(&disk_block(&mut self.dice, seed));
        }
        TestDisk::new(DiskSlot::Overlay, self.lab.path().join(format!("overlay{}", self.made)), &content)
    }

    /// Does something to some pages, as a guest would.
    fn change(&mut self, ram: &mut [u8], written: &mut PageSet, overlay: &TestDisk) {
        for _ in 0..self.dice.roll(40) {
            let start = self.dice.roll(self.pages);
            let len = if self.dice.one_in(4) { 1 + self.dice.roll(100) } else { 1 + self.dice.roll(4) };
            let (what, seed) = (self.dice.roll(8), self.dice.roll(3000));
            for page in start..self.pages.min(start + len) {
                written.insert(PageIndex(page));
                let into = page - start;
                let content = match what {
                    0 => noise(u64::from(seed * 1000 + into)),
                    1 => text(u64::from(seed + into)),
                    2 => [0; PAGE_SIZE],
                    3 => self.base.block(u64::from((seed + into) % BASE_BLOCKS)),
                    4 => overlay.block(u64::from((seed + into) % OVERLAY_BLOCKS)),
                    5 => {
                        let other = self.dice.roll(self.pages);
                        self::page(ram, other).try_into().unwrap()
                    }
                    // Almost a block of the disk.
                    6 => {
                        let mut block = self.base.block(u64::from((seed + into) % BASE_BLOCKS));
                        block[self.dice.roll(4096) as usize] ^= 1;
                        block
                    }
                    // Written, but as it was.
                    _ => continue,
                };
                page_mut(ram, page).copy_from_slice(&content);
            }
        }
    }

    fn step(&mut self) {
        let parent = match self.alive.len() {
            0 => None,
            _ if self.dice.one_in(25) => None,
            alive if self.dice.one_in(4) => Some(self.dice.roll(alive as u32) as usize),
            alive => Some(alive - 1),
        };
        let overlay = self.overlay(parent);
        let started = match parent {
            Some(parent) => self.alive[parent].ram.clone(),
            None => vec![0; self.pages as usize * PAGE_SIZE],
        };
        let mut ram = started.clone();
        let mut written = PageSet::new(self.pages);
        if !self.dice.one_in(10) {
            self.change(&mut ram, &mut written, &overlay);
        }
        let mut free = PageSet::new(self.pages);
        for _ in 0..self.dice.roll(12) {
            let start = self.dice.roll(self.pages);
            free.insert_range(start..start + 1 + self.dice.roll(60));
        }
        // What is in a free page does not matter, whether it was written or not.
        for page in free.iter().filter(|page| page.0 % 3 == 0) {
            written.insert(page);
            page_mut(&mut ram, page.0).copy_from_slice(&noise(u64::from(page.0) + 77));
        }
        let mut restored = ram.clone();
        free.iter().for_each(|page| page_mut(&mut restored, page.0).fill(0));
        let snapshot = self.pause(&ram, &started, &free, &written, parent, &overlay);
        self.made += 1;
        SEEN.fetch_add(1, Ordering::Relaxed);
        let generation = Generation { snapshot, overlay, ram: restored };
        self.check(&generation, Some(&free));
        self.alive.push(generation);
        if self.alive.len() == 1 && self.dice.one_in(2) {
            self.template = self.alive[0].snapshot.stored.packs.iter().map(|pack| pack.id).collect();
        }
        if self.dice.one_in(3) {
            self.compact();
        }
        if self.alive.len() > 4 {
            self.forget();
        }
    }

    fn pause(
        &mut self,
        ram: &[u8],
        started: &Vec<u8>,
        free: &PageSet,
        written: &PageSet,
        parent: Option<usize>,
        overlay: &TestDisk,
    ) -> Snapshot {
        let image = parent.map(|parent| self.alive[parent].snapshot.open());
        let parent = image.as_ref().map(|image| Parent { image, written, ram: started });
        let mut disks = vec![self.base.content(), overlay.content()];
        if self.dice.one_in(6) {
            disks.remove(self.dice.roll(2) as usize);
        }
        let mut source = CountedRam::new(ram);
        if self.dice.one_in(2) {
            source.populated = populated(ram);
        }
        let layout = layout(self.pages, self.pages / 2 + 1);
        let free = (!free.is_empty()).then_some(free);
        let capture = capture(&source, &layout, free, &disks, parent);
        let options = StoreOptions {
            threads: 1 + self.dice.roll(4) as usize,
            codec: [Codec::Zstd, Codec::Lz4][self.dice.roll(2) as usize],
            level: 1,
            frame_pages: [1, 3, 16, 256][self.dice.roll(4) as usize],
        };
        let name = format!("{}.idx", self.made);
        let snapshot = self.lab.pause(&capture, options, &name).unwrap();
        let free_pages: Vec<_> = free.into_iter().flat_map(PageSet::iter).map(|page| page.0).collect();
        assert!(source.pages_read().iter().all(|page| !free_pages.contains(page)), "a free page was read");
        snapshot
    }

    fn check(&mut self, generation: &Generation, free: Option<&PageSet>) {
        let image = generation.snapshot.open();
        let disks = [self.base.disk(), generation.overlay.disk()];
        let stored = &generation.snapshot.stored;
        assert!(self.lab.materialised(&image, &disks, 1 + self.dice.roll(3) as usize) == generation.ram);
        assert_eq!(stored.ram_digest.to_string(), digest_of(&generation.ram));
        assert_eq!(image.ram_digest(), Some(stored.ram_digest));
        image.verify(&self.lab.packs, &disks, 2, &()).unwrap();
        assert_eq!(image.summary(), &stored.summary);
        let mut reader = image.pages(&self.lab.packs, &disks);
        for _ in 0..20 {
            let number = self.dice.roll(self.pages);
            let mut content = [0xaa; PAGE_SIZE];
            reader.read(PageIndex(number), &mut content).unwrap();
            assert!(content == page(&generation.ram, number));
        }
        let mut next = 0;
        for run in image.runs() {
            assert_eq!(run.pages.start, next);
            next = run.pages.end;
            for number in run.pages {
                assert_eq!(run.class, class_of(PageIndex(number)));
                if let Some(free) = free {
                    assert_eq!(run.kind == PageKind::Free, free.contains(PageIndex(number)), "page {number}");
                }
                let blank = matches!(run.kind, PageKind::Free | PageKind::Zero);
                assert_eq!(blank, is_zero(page(&generation.ram, number)), "page {number}");
            }
        }
        assert_eq!(next, self.pages);
    }

    /// Compacts the newest image, which takes its place.
    fn compact(&mut self) {
        let Some(mut newest) = self.alive.pop() else { return };
        let policy = [CompactionPolicy::default(), CompactionPolicy::FLAT][self.dice.roll(2) as usize];
        let (pack, index) = (self.lab.create("half.pack"), self.lab.create("half.idx"));
        let image = newest.snapshot.open();
        let options = StoreOptions { threads: 2, ..StoreOptions::default() };
        let stored = compact(&image, &self.lab.packs, &self.template, policy, (&pack, &index), options, &()).unwrap();
        let own = |packs: &[dormouse_image::PackRef]| packs.iter().filter(|p| !self.template.contains(&p.id)).count();
        match stored {
            Some(stored) => {
                assert!(own(&stored.packs) <= policy.max_packs);
                newest.snapshot = self.lab.publish(stored, &format!("{}c.idx", self.made));
                self.check(&newest, None);
            }
            None => assert!(own(image.packs()) <= policy.max_packs),
        }
        self.alive.push(newest);
    }

    /// Removes the oldest snapshot and all packs that no other needs.
    fn forget(&mut self) {
        let gone = self.alive.remove(0);
        std::fs::remove_file(gone.snapshot.index).unwrap();
        std::fs::remove_file(gone.overlay.path).unwrap();
        let needed: BTreeSet<_> =
            self.alive.iter().flat_map(|g| &g.snapshot.stored.packs).map(|pack| pack.id.file_name()).collect();
        for entry in std::fs::read_dir(self.lab.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".pack") && !needed.contains(&name) {
                std::fs::remove_file(self.lab.path().join(name)).unwrap();
            }
        }
    }
}

/// A block that can be compressed, or not.
fn disk_block(dice: &mut Dice, seed: u32) -> [u8; PAGE_SIZE] {
    if dice.one_in(2) { noise(u64::from(seed)) } else { text(u64::from(seed)) }
}

/// The ranges of pages that are not zero.
fn populated(ram: &[u8]) -> Vec<std::ops::Range<u64>> {
    let pages = ram.chunks(PAGE_SIZE).zip(0u64..).filter(|(page, _)| !is_zero(page));
    let mut out: Vec<std::ops::Range<u64>> = Vec::new();
    for start in pages.map(|(_, page)| page * PAGE) {
        match out.last_mut() {
            Some(last) if last.end == start => last.end += PAGE,
            _ => out.push(start..start + PAGE),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn every_generation_gives_back_exactly_what_was_paused(seed: u64, pages in 3u32..1100) {
        let mut world = World::new(seed, pages);
        (0..GENERATIONS).for_each(|_| world.step());
        println!("{} generations so far", SEEN.load(Ordering::Relaxed));
    }
}
