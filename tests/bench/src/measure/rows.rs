//! What the methods store of one guest.

use dormouse_guest_mem::{Bytes, PageIndex, PageSet};
use dormouse_image::PageKind;

use super::stop::Stop;
use crate::census::Page;
use crate::figures::{Method, Row};
use crate::portion::Portions;

impl Stop {
    /// The methods that can be told from RAM alone, and those of the image. `others` are of other guests.
    pub(super) fn methods(&self, dropped: Option<Portions>, others: Vec<Row>) -> Vec<Row> {
        let raw = [
            (Method::Full, Some(self.census.all())),
            (Method::NonZero, Some(self.census.non_zero())),
            (Method::DropCaches, dropped),
        ];
        let mut all: Vec<_> = raw.into_iter().filter_map(|(method, parts)| Some(Row::pages(method, parts?))).collect();
        all.extend(others);
        all.push(Row::pages(Method::FreePages, self.in_image(is_content)));
        all.push(Row::pages(Method::Disk, self.in_packs()));
        all.push(Row::pages(Method::Parent, self.written()));
        all.push(Row { method: Method::Compressed, bytes: self.pause.stored.on_disk(), parts: None });
        all
    }

    /// What a resume brings back.
    pub(super) fn content(&self) -> Bytes {
        self.in_image(is_content).total()
    }

    /// Pages that are in frames, of whichever pack.
    pub(super) fn in_packs(&self) -> Portions {
        self.in_image(|kind| kind == PageKind::Data)
    }

    /// Pages that are in frames and were neither there before nor are equal to an earlier one: what the new pack holds.
    pub(super) fn written(&self) -> Portions {
        self.census.count(|page, known| self.is_written(page, known))
    }

    /// Those of them that are in `free`.
    pub(super) fn written_though(&self, free: &PageSet) -> Bytes {
        self.census.count(|page, known| self.is_written(page, known) && free.contains(page)).total()
    }

    fn is_written(&self, page: PageIndex, known: Page) -> bool {
        self.pause.stored.kind(page) == Some(PageKind::Data) && !known.had
    }

    /// Pages that the image holds in such a way, by what they hold.
    fn in_image(&self, wanted: impl Fn(PageKind) -> bool) -> Portions {
        self.census.count(|page, _| self.pause.stored.kind(page).is_some_and(&wanted))
    }
}

fn is_content(kind: PageKind) -> bool {
    !matches!(kind, PageKind::Zero | PageKind::Free)
}
