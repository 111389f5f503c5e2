//! The page map while it grows.

use dormouse_guest_mem::PageClass;

use crate::page_kind::PageKind;
use crate::v1::format::RunEntry;

/// Runs of pages of the same kind and class, from page 0 on.
#[derive(Default)]
pub(super) struct PageMap {
    runs: Vec<RunEntry>,
    pages: u32,
    data_pages: u32,
}

impl PageMap {
    /// Adds the next page.
    pub(super) fn push(&mut self, kind: PageKind, class: PageClass) {
        if self.runs.last().is_none_or(|last| (last.kind, last.class) != (kind, class)) {
            self.runs.push(RunEntry { start: self.pages, data_before: self.data_pages, kind, class });
        }
        self.pages += 1;
        self.data_pages += u32::from(kind == PageKind::Data);
    }

    /// Data pages so far.
    pub(super) fn data_pages(&self) -> u32 {
        self.data_pages
    }

    pub(super) fn into_runs(self) -> Vec<RunEntry> {
        self.runs
    }
}
