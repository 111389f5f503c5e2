//! The plans of collection and eviction against models that are too slow and simple to be wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use dormouse_guest_mem::Bytes;
use dormouse_store::gc::{self, References};
use dormouse_store::{PackId, PackInfo, cache};
use proptest::prelude::*;
use support::{id_of, name};

mod support;

fn id(number: u8) -> PackId {
    id_of(&[number])
}

/// Few of everything, so that cases collide.
#[derive(Clone, Debug)]
enum Change {
    Insert(u8, BTreeSet<u8>),
    Remove(u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (0..6u8, prop::collection::btree_set(0..12u8, 0..6)).prop_map(|(s, packs)| Change::Insert(s, packs)),
        1 => (0..6u8).prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 0..40)
}

fn present() -> impl Strategy<Value = Vec<PackInfo>> {
    prop::collection::btree_map(0..12u8, (0..1000u64, 0..5u64), 0..12).prop_map(|packs| {
        let info = |(number, (len, age))| PackInfo {
            id: id(number),
            len: Bytes(len),
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(age),
        };
        packs.into_iter().map(info).collect()
    })
}

fn ids(numbers: &BTreeSet<u8>) -> BTreeSet<PackId> {
    numbers.iter().map(|n| id(*n)).collect()
}

proptest! {
    #[test]
    fn a_pack_goes_exactly_if_no_snapshot_needs_it_and_nobody_pins_it(
        changes in changes(), present in present(), pinned in prop::collection::btree_set(0..12u8, 0..4)
    ) {
        let mut model = BTreeMap::<u8, BTreeSet<PackId>>::new();
        let mut references = References::default();
        for change in changes {
            match change {
                Change::Insert(snapshot, packs) => {
                    model.insert(snapshot, ids(&packs));
                    references.insert(name(&format!("s{snapshot}")), ids(&packs));
                }
                Change::Remove(snapshot) => {
                    let known = model.remove(&snapshot).is_some();
                    prop_assert_eq!(references.remove(&name(&format!("s{snapshot}"))), known);
                }
            }
        }
        let rebuilt: References = model.iter().map(|(s, packs)| (name(&format!("s{s}")), packs.clone())).collect();
        prop_assert_eq!(&references, &rebuilt, "what was changed step by step is what the manifests say");

        let pinned = ids(&pinned);
        let plan = gc::plan(&present, &references, |id| pinned.contains(id));
        let needed: BTreeSet<_> = model.values().flatten().copied().collect();
        for pack in &present {
            let goes = !needed.contains(&pack.id) && !pinned.contains(&pack.id);
            prop_assert_eq!(plan.remove.contains(pack), goes);
            prop_assert_eq!(plan.pinned.contains(&pack.id), !needed.contains(&pack.id) && pinned.contains(&pack.id));
        }
        prop_assert!(plan.remove.iter().all(|pack| present.contains(pack)));
        let here: BTreeSet<_> = present.iter().map(|pack| pack.id).collect();
        let absent: BTreeMap<_, Vec<_>> = needed.difference(&here).map(|id| {
            let with = model.iter().filter(|(_, packs)| packs.contains(id));
            (*id, with.map(|(s, _)| name(&format!("s{s}"))).collect())
        }).collect();
        prop_assert_eq!(plan.absent, absent);
    }

    #[test]
    fn no_pack_is_evicted_that_could_stay_and_none_stays_that_must_go(
        present in present(), may_go in prop::collection::btree_set(0..12u8, 0..12), bound in 0..6000u64
    ) {
        let may_go = ids(&may_go);
        let plan = cache::plan(&present, Bytes(bound), |id| may_go.contains(id));
        // The model: as long as the rest is too large, the longest unused one goes.
        let mut rest = present;
        let mut gone = Vec::new();
        while rest.iter().map(|p| p.len.0).sum::<u64>() > bound {
            let Some(next) = rest.iter().filter(|p| may_go.contains(&p.id)).min_by_key(|p| (p.last_used, p.id)).copied()
            else { break };
            rest.retain(|p| p.id != next.id);
            gone.push(next);
        }
        prop_assert_eq!(plan.evict, gone);
        prop_assert_eq!(plan.over.0, rest.iter().map(|p| p.len.0).sum::<u64>().saturating_sub(bound));
    }
}
