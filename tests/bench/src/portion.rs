//! What the pages of RAM hold, as far as it matters to a snapshot.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use dormouse_guest_mem::{Bytes, PageClass};
use serde::Serialize;

/// One kind of content. A page is of the first kind that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portion {
    /// Only zero bytes.
    Zero,
    /// Left over in a page that is nobody's.
    Free,
    /// The same as a block of one of the guest's disks.
    OnDisk,
    /// Page cache that no disk has, such as blocks that are not written yet.
    Cache,
    /// Memory of processes, tmpfs.
    Processes,
    /// The kernel: text, data, slab, page tables, page structures.
    Kernel,
}

impl Portion {
    pub(crate) const ALL: [Self; 6] =
        [Self::Zero, Self::Free, Self::OnDisk, Self::Cache, Self::Processes, Self::Kernel];

    /// The portion of a page in use that is not zero and on no disk.
    pub(crate) fn of_class(class: PageClass) -> Self {
        match class {
            PageClass::Free | PageClass::Offline => Self::Free,
            PageClass::PageCache => Self::Cache,
            PageClass::Anonymous | PageClass::Shmem => Self::Processes,
            PageClass::Slab | PageClass::PageTable | PageClass::Kernel | PageClass::Unknown => Self::Kernel,
        }
    }

    /// For tables and pictures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Free => "free",
            Self::OnDisk => "on disk",
            Self::Cache => "other cache",
            Self::Processes => "processes",
            Self::Kernel => "kernel",
        }
    }
}

/// Bytes of each portion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Portions {
    zero: Bytes,
    free: Bytes,
    on_disk: Bytes,
    cache: Bytes,
    processes: Bytes,
    kernel: Bytes,
}

impl Portions {
    pub(crate) fn get(&self, portion: Portion) -> Bytes {
        match portion {
            Portion::Zero => self.zero,
            Portion::Free => self.free,
            Portion::OnDisk => self.on_disk,
            Portion::Cache => self.cache,
            Portion::Processes => self.processes,
            Portion::Kernel => self.kernel,
        }
    }

    fn slot(&mut self, portion: Portion) -> &mut Bytes {
        match portion {
            Portion::Zero => &mut self.zero,
            Portion::Free => &mut self.free,
            Portion::OnDisk => &mut self.on_disk,
            Portion::Cache => &mut self.cache,
            Portion::Processes => &mut self.processes,
            Portion::Kernel => &mut self.kernel,
        }
    }

    /// Counts one page.
    pub(crate) fn add_page(&mut self, portion: Portion) {
        self.slot(portion).0 += Bytes::of_pages(1).0;
    }

    pub(crate) fn total(&self) -> Bytes {
        Bytes(Portion::ALL.iter().map(|portion| self.get(*portion).0).sum())
    }
}

impl AddAssign for Portions {
    fn add_assign(&mut self, other: Self) {
        for portion in Portion::ALL {
            self.slot(portion).0 += other.get(portion).0;
        }
    }
}

impl Add for Portions {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Portions {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
