//! Packs in use by something that runs.

use std::collections::BTreeMap;

use super::Packs;
use crate::PackId;

/// How often each pack is pinned.
#[derive(Debug, Default)]
pub(super) struct PinCounts(BTreeMap<PackId, u64>);

impl PinCounts {
    pub(super) fn add(&mut self, id: PackId) {
        *self.0.entry(id).or_default() += 1;
    }

    pub(super) fn release(&mut self, id: &PackId) {
        if let Some(count) = self.0.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(id);
            }
        }
    }

    pub(super) fn has(&self, id: &PackId) -> bool {
        self.0.contains_key(id)
    }
}

/// Keeps packs from being removed or evicted until it is dropped, also packs that are not there yet.
#[derive(Debug)]
#[must_use = "packs are pinned only as long as this lives"]
pub struct Pins {
    packs: Packs,
    ids: Vec<PackId>,
}

impl Pins {
    pub(super) fn new(packs: Packs, ids: Vec<PackId>) -> Self {
        for id in &ids {
            packs.state().pins.add(*id);
        }
        Self { packs, ids }
    }

    /// The pinned packs.
    #[must_use]
    pub fn ids(&self) -> &[PackId] {
        &self.ids
    }

    /// Takes over what `other` pins.
    pub fn join(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.packs.state();
        for id in &self.ids {
            state.pins.release(id);
        }
    }
}
