//! Which packs the folder may do without, because the remote has them.

use dormouse_guest_mem::Bytes;

use crate::{PackId, PackInfo};

/// What an eviction does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Packs to remove from the folder, longest unused first.
    pub evict: Vec<PackInfo>,
    /// By how much the folder is still over the bound then: nothing else may go.
    pub over: Bytes,
}

/// Decides which packs go so that those in `present` take `bound` at most: the longest unused of those that
/// `may_go` (uploaded and not pinned), and no more than needed.
#[must_use]
pub fn plan(present: &[PackInfo], bound: Bytes, may_go: impl Fn(&PackId) -> bool) -> Eviction {
    let total: u64 = present.iter().map(|pack| pack.len.0).sum();
    let mut over = total.saturating_sub(bound.0);
    let mut candidates: Vec<_> = present.iter().filter(|pack| may_go(&pack.id)).copied().collect();
    candidates.sort_by_key(|pack| (pack.last_used, pack.id));
    let mut evict = Vec::new();
    for pack in candidates {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(pack.len.0);
        evict.push(pack);
    }
    Eviction { evict, over: Bytes(over) }
}
