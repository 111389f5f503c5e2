//! Which packs of an image are to be rewritten.

/// When to rewrite. Packs that are to be kept do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// So many packs may an image have.
    pub max_packs: usize,
    /// So many percent of the pages in its packs must an image need.
    pub min_live_percent: u32,
}

impl Default for CompactionPolicy {
    /// What a resume reads of its own packs is at most 15 % more than it needs, from at most four of them.
    fn default() -> Self {
        Self { max_packs: 4, min_live_percent: 87 }
    }
}

impl CompactionPolicy {
    /// One pack after every pause, and nothing in it that is not needed: a resume always costs the same. Pauses cost more,
    /// and generations share nothing but what is kept.
    pub const FLAT: Self = Self { max_packs: 1, min_live_percent: 100 };
}

/// How much of a pack is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Its number in the image's table.
    pub(super) number: u16,
    pub(super) pages: u32,
    pub(super) live: u32,
}

impl Usage {
    fn wastes(&self, policy: CompactionPolicy) -> bool {
        wastes(self.live.into(), self.pages.into(), policy)
    }
}

fn wastes(live: u64, pages: u64, policy: CompactionPolicy) -> bool {
    live * 100 < pages * u64::from(policy.min_live_percent)
}

/// The packs to rewrite into one; none if all is well.
///
/// When there are too many, the smallest are joined until half of the allowed number is left; a pack that is at most twice
/// as large as all that is rewritten anyway is joined too. So a large pack is rewritten rarely: when others have grown to
/// half its size, or when too much of it is no longer needed.
pub(super) fn choose(packs: &[Usage], policy: CompactionPolicy) -> Vec<u16> {
    let sum = |of: fn(&Usage) -> u32| packs.iter().map(|pack| u64::from(of(pack))).sum::<u64>();
    let wasteful = wastes(sum(|pack| pack.live), sum(|pack| pack.pages), policy);
    let too_many = packs.len() > policy.max_packs.max(1);
    if !wasteful && !too_many {
        return Vec::new();
    }
    let mut by_size = packs.to_vec();
    by_size.sort_by_key(|pack| (pack.live, pack.number));
    let joined = if too_many { packs.len() + 1 - (policy.max_packs / 2).max(1) } else { 0 };
    let (mut chosen, mut live) = (Vec::new(), 0);
    for (place, pack) in by_size.iter().enumerate() {
        let small = !chosen.is_empty() && u64::from(pack.live) <= 2 * live;
        if place < joined || small || (wasteful && pack.wastes(policy)) {
            chosen.push(pack.number);
            live += u64::from(pack.live);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(sizes: &[(u32, u32)]) -> Vec<Usage> {
        sizes.iter().zip(0..).map(|((live, pages), number)| Usage { number, pages: *pages, live: *live }).collect()
    }

    const POLICY: CompactionPolicy = CompactionPolicy { max_packs: 4, min_live_percent: 80 };

    #[test]
    fn nothing_is_rewritten_while_packs_are_few_and_needed() {
        for fine in [&[][..], &[(10, 10)], &[(900, 1000), (5, 5), (5, 10), (1, 1)]] {
            assert_eq!(choose(&packs(fine), POLICY), [0u16; 0], "{fine:?}");
        }
    }

    #[test]
    fn small_packs_are_joined_and_the_large_one_is_left_alone() {
        let many = packs(&[(1000, 1000), (5, 5), (6, 6), (7, 7), (8, 8)]);
        assert_eq!(choose(&many, POLICY), [1, 2, 3, 4]);
        let grown = packs(&[(1000, 1000), (500, 500), (6, 6), (7, 7), (8, 8)]);
        assert_eq!(choose(&grown, POLICY), [2, 3, 4, 1, 0]);
    }

    #[test]
    fn a_pack_that_is_hardly_needed_is_rewritten() {
        assert_eq!(choose(&packs(&[(700, 1000)]), POLICY), [0]);
        assert_eq!(choose(&packs(&[(700, 1000), (100, 100)]), POLICY), [0]);
        assert_eq!(choose(&packs(&[(0, 1000)]), POLICY), [0]);
    }

    #[test]
    fn the_flat_policy_leaves_one_pack_that_is_all_needed() {
        assert_eq!(choose(&packs(&[(10, 10)]), CompactionPolicy::FLAT), [0u16; 0]);
        assert_eq!(choose(&packs(&[(9, 10)]), CompactionPolicy::FLAT), [0]);
        assert_eq!(choose(&packs(&[(1000, 1000), (1, 1)]), CompactionPolicy::FLAT), [1, 0]);
    }
}
