//! A class for every page of the RAM file.

use std::ops::Range;

use dormouse_guest_mem::{PageClass, PageIndex};

/// The [`PageClass`] of every page of a RAM file; one byte of memory each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    classes: Vec<PageClass>,
}

impl ClassMap {
    pub(crate) fn new(pages: u32) -> Self {
        Self { classes: vec![PageClass::Unknown; pages as usize] }
    }

    /// The class of `page`; [`PageClass::Unknown`] past the end.
    #[must_use]
    pub fn get(&self, page: PageIndex) -> PageClass {
        self.classes.get(page.0 as usize).copied().unwrap_or_default()
    }

    /// Number of pages.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.classes.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is no page at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Number of pages with this class.
    #[must_use]
    pub fn count(&self, class: PageClass) -> u32 {
        u32::try_from(self.classes.iter().filter(|c| **c == class).count()).unwrap_or(u32::MAX)
    }

    /// The longest runs of pages with one class, ascending, covering every page once.
    pub fn runs(&self) -> impl Iterator<Item = (Range<u32>, PageClass)> + '_ {
        let mut start = 0u32;
        self.classes.chunk_by(|a, b| a == b).filter_map(move |run| {
            let end = start.saturating_add(u32::try_from(run.len()).ok()?);
            let range = std::mem::replace(&mut start, end)..end;
            Some((range, *run.first()?))
        })
    }

    pub(crate) fn set(&mut self, page: PageIndex, class: PageClass) {
        if let Some(slot) = self.classes.get_mut(page.0 as usize) {
            *slot = class;
        }
    }

    pub(crate) fn set_range(&mut self, range: Range<u32>, class: PageClass) {
        if let Some(slots) = self.classes.get_mut(range.start as usize..range.end as usize) {
            slots.fill(class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_page_once_in_order() {
        let mut map = ClassMap::new(8);
        map.set_range(2..5, PageClass::Free);
        map.set(PageIndex(7), PageClass::Slab);
        let runs: Vec<_> = map.runs().collect();
        assert_eq!(
            runs,
            [(0..2, PageClass::Unknown), (2..5, PageClass::Free), (5..7, PageClass::Unknown), (7..8, PageClass::Slab)]
        );
        assert_eq!(map.count(PageClass::Free), 3);
    }

    #[test]
    fn pages_past_the_end_are_unknown_and_cannot_be_set() {
        let mut map = ClassMap::new(2);
        map.set(PageIndex(2), PageClass::Free);
        map.set_range(1..3, PageClass::Free);
        assert_eq!(map.count(PageClass::Free), 0);
        assert_eq!(map.get(PageIndex(2)), PageClass::Unknown);
    }
}
