//! What a compaction rewrites, and what it leaves alone.
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

use dormouse_guest_mem::PAGE_SIZE;
use dormouse_image::{CompactionPolicy, PackId, StoreOptions, Stored, compact};
use support::parts::Parts;

fn flat(parts: &Parts, keep: &BTreeSet<PackId>) -> Option<Stored> {
    let files = (&parts.lab.create("half.pack"), &parts.lab.create("half.idx"));
    let options = StoreOptions { frame_pages: 1, ..StoreOptions::default() };
    compact(&parts.snapshot.open(), &parts.lab.packs, keep, CompactionPolicy::FLAT, files, options, &()).unwrap()
}

#[test]
fn packs_that_are_to_be_kept_are_not_rewritten() {
    let parts = Parts::new();
    let all: BTreeSet<_> = parts.snapshot.stored.packs.iter().map(|pack| pack.id).collect();
    assert!(flat(&parts, &all).is_none(), "nothing is left to do");
    for kept in &all {
        if let Some(stored) = flat(&parts, &[*kept].into()) {
            assert!(stored.packs.iter().any(|pack| pack.id == *kept));
            let compacted = parts.lab.publish(stored, "kept.idx");
            assert!(parts.lab.materialised(&compacted.open(), &parts.disks(), 2) == parts.restored);
        }
    }
}

#[test]
fn one_pack_holds_all_that_is_needed_once() {
    let parts = Parts::new();
    let stored = flat(&parts, &BTreeSet::new()).unwrap();
    assert_eq!(stored.packs.len(), 1);
    assert_eq!(stored.ram_digest, parts.snapshot.stored.ram_digest);
    let pages = parts.restored.chunks(PAGE_SIZE).filter(|page| page.iter().any(|byte| *byte != 0));
    let on_disks: usize = [&parts.base, &parts.overlay].map(|disk| disk.index.len()).iter().sum();
    let different = pages.collect::<BTreeSet<_>>().len() - on_disks;
    let compacted = parts.lab.publish(stored, "flat.idx");
    // One frame for each page; their number stands behind the place of the table.
    let pack = std::fs::read(parts.lab.packs.path(&compacted.stored.packs[0].id)).unwrap();
    let frames = u32::from_le_bytes(pack[pack.len() - 56..][..4].try_into().unwrap());
    assert_eq!(frames as usize, different);
    let image = compacted.open();
    assert!(parts.lab.materialised(&image, &parts.disks(), 2) == parts.restored);
    image.verify(&parts.lab.packs, &parts.disks(), 2, &()).unwrap();
}
