//! What a resume costs after many generations, with compaction after each pause as the policy says.
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

use dormouse_guest_mem::{PageClass, PageIndex, PageSet, RamLayout};
use dormouse_image::{Capture, CompactionPolicy, PackId, Parent, ReadCost, StoreOptions, compact};
use support::lab::*;
use support::*;

/// 12 MiB of RAM. A resumed sandbox first writes its working set, and then a twentieth of it in each generation.
const PAGES: u32 = 3072;
const DEPTHS: [u32; 4] = [1, 10, 100, 1000];
const OPTIONS: StoreOptions =
    StoreOptions { threads: 2, codec: dormouse_image::Codec::Zstd, level: 1, frame_pages: 16 };

struct Chain {
    lab: Lab,
    layout: RamLayout,
    ram: Vec<u8>,
    newest: Snapshot,
    template: BTreeSet<PackId>,
    /// A third of RAM, in runs of some pages all over it, as memory is.
    working_set: Vec<u32>,
    compactions: u32,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    read: ReadCost,
    index: u64,
}

impl Chain {
    fn new() -> Self {
        let (lab, layout) = (Lab::new(), layout(PAGES, PAGES));
        let ram: Vec<u8> =
            (0..u64::from(PAGES)).flat_map(|page| if page % 2 == 0 { text(page) } else { noise(page) }).collect();
        let newest = lab.first(&ram, &layout, None, "0");
        let template = newest.stored.packs.iter().map(|pack| pack.id).collect();
        let mut chain =
            Self { lab, layout, ram, newest, template, working_set: Vec::new(), compactions: 0, seed: 0x5eed };
        let mut at = 0;
        while at < PAGES {
            let (used, gap) = (1 + chain.random(5), 1 + chain.random(9));
            chain.working_set.extend(at..PAGES.min(at + used));
            at += used + gap;
        }
        chain
    }

    fn random(&mut self, below: u32) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 33) as u32 % below
    }

    /// Runs, writes, is paused and compacted; what the one before left behind is removed.
    fn generation(&mut self, depth: u32, policy: CompactionPolicy) {
        let before = self.newest.stored.packs.clone();
        let image = self.newest.open();
        let started = self.ram.clone();
        let mut written = PageSet::new(PAGES);
        if depth == 1 {
            self.working_set.iter().for_each(|page| written.insert(PageIndex(*page)));
        }
        for _ in 0..self.working_set.len() / 20 {
            let at = self.random(self.working_set.len() as u32) as usize;
            written.insert(PageIndex(self.working_set[at]));
        }
        for page in written.iter() {
            let content = noise(u64::from(depth) << 32 | u64::from(page.0));
            page_mut(&mut self.ram, page.0).copy_from_slice(&content);
        }
        let parent = Parent { image: &image, written: &written, ram: &started };
        let capture = Capture { class_of: &class, ..capture(&self.ram, &self.layout, None, &[], Some(parent)) };
        self.newest = self.lab.pause(&capture, OPTIONS, &depth.to_string()).unwrap();
        let (pack, index) = (self.lab.create("half.pack"), self.lab.create("half.idx"));
        let image = self.newest.open();
        let compacted =
            compact(&image, &self.lab.packs, &self.template, policy, (&pack, &index), OPTIONS, &()).unwrap();
        let mut old = before;
        if let Some(stored) = compacted {
            old.append(&mut self.newest.stored.packs);
            self.newest = self.lab.publish(stored, &depth.to_string());
            self.compactions += 1;
        }
        for pack in old.iter().filter(|pack| !self.newest.stored.packs.contains(pack)) {
            // The one that was replaced at once may be named twice.
            let _ = std::fs::remove_file(self.lab.packs.path(&pack.id));
        }
        std::fs::remove_file(self.lab.path().join((depth - 1).to_string())).unwrap();
    }

    fn cost(&self) -> Cost {
        let image = self.newest.open();
        let out = tempfile::NamedTempFile::new().unwrap();
        let read = image.materialise(&self.lab.packs, &[], out.as_file(), 2, &()).unwrap();
        assert!(std::fs::read(out.path()).unwrap() == self.ram);
        Cost { read, index: self.newest.stored.index_len.0 }
    }
}

/// Classes in runs of a few pages, in no order.
fn class(page: PageIndex) -> PageClass {
    PageClass::from_code(3 + noise(u64::from(page.0 / 3))[0] % 6).unwrap()
}

/// How much more this is than at the first depth, in percent.
fn more(now: u64, first: u64) -> u64 {
    now.saturating_sub(first) * 100 / first
}

fn run(policy: CompactionPolicy) -> Vec<(u32, Cost)> {
    let mut chain = Chain::new();
    let mut costs = Vec::new();
    println!("{policy:?}");
    println!("depth   packs  frames decoded  bytes read  index bytes  compactions so far");
    for depth in 1..=DEPTHS[3] {
        chain.generation(depth, policy);
        // Not only where compaction may have been lately.
        if DEPTHS.contains(&depth) || depth % 40 == 0 {
            let cost = chain.cost();
            costs.push((depth, cost));
            if DEPTHS.contains(&depth) {
                let ReadCost { packs, frames, pack_bytes, .. } = cost.read;
                println!(
                    "{depth:5} {packs:7} {frames:15} {:11} {:12} {:19}",
                    pack_bytes.0, cost.index, chain.compactions
                );
            }
        }
    }
    let most = |of: fn(&Cost) -> u64| costs.iter().map(|(_, cost)| of(cost)).max().unwrap();
    println!(
        "most  {:7} {:15} {:11} {:12}",
        most(|c| c.read.packs.into()),
        most(|c| c.read.frames.into()),
        most(|c| c.read.pack_bytes.0),
        most(|c| c.index)
    );
    costs
}

#[test]
fn a_resume_costs_the_same_at_any_depth() {
    let policy = CompactionPolicy::default();
    let costs = run(policy);
    let first = costs[0].1;
    for (depth, cost) in &costs {
        assert!(more(cost.read.frames.into(), first.read.frames.into()) < 20, "depth {depth}: {cost:?}");
        assert!(more(cost.read.pack_bytes.0, first.read.pack_bytes.0) < 20, "depth {depth}: {cost:?}");
        assert!(more(cost.index, first.index) < 20, "depth {depth}: {cost:?}");
        assert!(cost.read.packs as usize <= 1 + policy.max_packs, "depth {depth}: {cost:?}");
    }
}

#[test]
fn by_the_flat_policy_the_number_of_packs_stays_the_same_too() {
    let costs = run(CompactionPolicy::FLAT);
    let first = costs[0].1;
    for (depth, cost) in &costs {
        assert_eq!(cost.read.packs, first.read.packs, "depth {depth}");
        assert!(more(cost.read.frames.into(), first.read.frames.into()) < 20, "depth {depth}: {cost:?}");
        assert!(more(cost.read.pack_bytes.0, first.read.pack_bytes.0) < 20, "depth {depth}: {cost:?}");
        assert!(more(cost.index, first.index) < 20, "depth {depth}: {cost:?}");
    }
}
