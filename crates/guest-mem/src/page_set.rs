//! A set of pages of the RAM file, one bit each.

use std::ops::Range;

use crate::{Bytes, PageIndex};

/// A set of pages of a RAM file with a fixed number of pages. Pages past the end are never members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSet {
    words: Vec<u64>,
    pages: u32,
}

impl PageSet {
    /// An empty set over a RAM file of `pages` pages. Takes one bit of memory for each.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self { words: vec![0; pages.div_ceil(64) as usize], pages }
    }

    /// Number of pages in the RAM file (not of members).
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.pages
    }

    /// Whether `page` is a member.
    #[must_use]
    pub fn contains(&self, page: PageIndex) -> bool {
        self.words.get((page.0 / 64) as usize).is_some_and(|w| w >> (page.0 % 64) & 1 == 1)
    }

    /// Adds one page; past the end it does nothing.
    pub fn insert(&mut self, page: PageIndex) {
        self.insert_range(page.0..page.0.saturating_add(1));
    }

    /// Adds `range`, cut at the end of the RAM file.
    pub fn insert_range(&mut self, range: Range<u32>) {
        let end = range.end.min(self.pages);
        let mut at = range.start;
        while at < end {
            let bit = at % 64;
            let take = (64 - bit).min(end - at);
            let mask = if take == 64 { u64::MAX } else { ((1u64 << take) - 1) << bit };
            if let Some(w) = self.words.get_mut((at / 64) as usize) {
                *w |= mask;
            }
            at += take;
        }
    }

    /// Removes one page.
    pub fn remove(&mut self, page: PageIndex) {
        if let Some(w) = self.words.get_mut((page.0 / 64) as usize) {
            *w &= !(1 << (page.0 % 64));
        }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// Size of all member pages together.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes::of_pages(u64::from(self.len()))
    }

    /// Members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PageIndex> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, i)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (bit < 64).then(|| {
                    rest &= rest - 1;
                    PageIndex(i * 64 + bit)
                })
            })
        })
    }

    /// The longest runs of members, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            let end = self.next(start, false).unwrap_or(self.pages);
            at = end;
            Some(start..end)
        })
    }

    /// The first page from `at` on that is a member, or is none.
    fn next(&self, at: u32, member: bool) -> Option<u32> {
        let mut word_start = at - at % 64;
        let mut mask = u64::MAX << (at % 64);
        for word in self.words.get((at / 64) as usize..)? {
            let found = (if member { *word } else { !*word }) & mask;
            if found != 0 {
                return Some(word_start + found.trailing_zeros()).filter(|page| *page < self.pages);
            }
            word_start += 64;
            mask = u64::MAX;
        }
        None
    }

    /// Members of both sets. The sets must describe RAM files of the same size; extra pages are dropped.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect::<Vec<_>>();
        let pages = self.pages.min(other.pages);
        Self { words, pages }
    }

    /// Members of either set, but for extra pages of `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        other.ranges().for_each(|run| out.insert_range(run));
        out
    }

    /// Members of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (a, b) in out.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(
            pages in 1u32..400,
            ranges in prop::collection::vec((0u32..500, 0u32..200), 0..8),
            removed in prop::collection::vec(0u32..500, 0..8),
        ) {
            let (mut set, mut model) = (PageSet::new(pages), BTreeSet::new());
            for (start, len) in ranges {
                set.insert_range(start..start + len);
                model.extend((start..start + len).filter(|p| *p < pages));
            }
            for p in removed {
                set.remove(PageIndex(p));
                model.remove(&p);
            }
            prop_assert_eq!(set.iter().map(|p| p.0).collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!(set.len() as usize, model.len());
            let from_ranges: Vec<_> = set.ranges().flatten().collect();
            prop_assert_eq!(from_ranges, model.iter().copied().collect::<Vec<_>>());
            for (a, b) in set.ranges().zip(set.ranges().skip(1)) {
                prop_assert!(a.end < b.start, "runs that touch are one");
            }
            let mut others = PageSet::new(pages);
            others.insert_range(pages / 3..pages / 2);
            let both: BTreeSet<_> = model.iter().copied().chain(pages / 3..pages / 2).collect();
            prop_assert_eq!(set.union(&others).iter().map(|p| p.0).collect::<BTreeSet<_>>(), both);
            for p in 0..500 {
                prop_assert_eq!(set.contains(PageIndex(p)), model.contains(&p));
            }
        }
    }
}
