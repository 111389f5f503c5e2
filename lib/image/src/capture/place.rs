//! Where data pages lie in a pack: by the guest's use of them, then by address. What is used together lies together, and
//! runs of pages stay runs.

use dormouse_guest_mem::{PageClass, PageIndex, PageSet};

use crate::image::map::ClassRun;

/// Classes in the order in which a resume is likely to need them.
const ORDER: [PageClass; 9] = [
    PageClass::Kernel,
    PageClass::PageTable,
    PageClass::Slab,
    PageClass::Anonymous,
    PageClass::Shmem,
    PageClass::PageCache,
    PageClass::Unknown,
    PageClass::Offline,
    PageClass::Free,
];

/// The place of a class in that order.
pub(crate) fn rank(class: PageClass) -> usize {
    ORDER.iter().position(|other| *other == class).unwrap_or(ORDER.len() - 1)
}

/// The order of the data pages of an image.
pub(super) struct Order<'a> {
    classes: &'a [ClassRun],
    /// All data pages, in the order of the pack.
    pages: Vec<u32>,
    /// Where the pages of each class start; one more for the end.
    starts: [u32; ORDER.len() + 1],
}

impl<'a> Order<'a> {
    pub(super) fn new(data: &PageSet, classes: &'a [ClassRun]) -> Self {
        let mut counts = [0u32; ORDER.len()];
        each(data, classes, |_, rank| {
            if let Some(count) = counts.get_mut(rank) {
                *count += 1;
            }
        });
        let mut starts = [0; ORDER.len() + 1];
        let mut sum = 0;
        for (start, count) in starts.iter_mut().skip(1).zip(counts) {
            sum += count;
            *start = sum;
        }
        let mut next = starts;
        let mut pages = vec![0; sum as usize];
        each(data, classes, |page, rank| {
            if let Some(at) = next.get_mut(rank)
                && let Some(place) = pages.get_mut(*at as usize)
            {
                *place = page;
                *at += 1;
            }
        });
        Self { classes, pages, starts }
    }

    pub(super) fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Where in the pack a data page lies.
    pub(super) fn place(&self, page: u32) -> Option<u32> {
        let after = self.classes.partition_point(|run| run.start <= page);
        let rank = rank(self.classes.get(after.checked_sub(1)?)?.class);
        let [start, end] = *self.starts.get(rank..)?.first_chunk()?;
        let within = self.pages.get(start as usize..end as usize)?.binary_search(&page).ok()?;
        Some(start + within as u32)
    }
}

/// Calls `f` with each data page and the rank of its class, ascending by page.
fn each(data: &PageSet, classes: &[ClassRun], mut f: impl FnMut(u32, usize)) {
    let mut runs = classes.iter().peekable();
    let mut now = 0;
    for PageIndex(page) in data.iter() {
        while let Some(run) = runs.next_if(|run| run.start <= page) {
            now = rank(run.class);
        }
        f(page, now);
    }
}
