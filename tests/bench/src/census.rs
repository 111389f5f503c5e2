//! What every page of a guest's RAM holds, by oracles that share no code with `lib/image`.

use std::collections::HashSet;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, RamLayout, RamSource};
use dormouse_introspect::{Request, survey};

use crate::block_hashes::{BlockHashes, Hash, hash};
use crate::pages::each_non_zero;
use crate::portion::{Portion, Portions};

/// What is known of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) holds: Portion,
    /// It is in use, and holds what it held when the VM was restored or what another page holds that comes before it and is
    /// on no disk.
    pub(crate) had: bool,
}

/// All pages of RAM.
pub(crate) struct Census {
    pages: Vec<Page>,
    /// Release of the guest's kernel.
    pub(crate) kernel: String,
}

impl Census {
    /// Looks at all RAM of a guest whose virtual CPUs stand still, or a copy of it.
    pub(crate) fn take(
        ram: &dyn RamSource,
        layout: &RamLayout,
        disks: &[&BlockHashes],
        parent: Option<&dyn RamSource>,
    ) -> anyhow::Result<Self> {
        let found = survey(&Request { ram, layout, note: None, mem_free: None })?;
        let mut pages = vec![Page { holds: Portion::Zero, had: false }; layout.pages() as usize];
        let (mut before, mut seen) = (vec![0; PAGE_SIZE], HashSet::<Hash>::new());
        each_non_zero(ram, |page, bytes| {
            let hash = hash(bytes);
            let holds = if found.free.contains(page) {
                Portion::Free
            } else if disks.iter().any(|disk| disk.contains(&hash)) {
                Portion::OnDisk
            } else {
                Portion::of_class(found.classes.get(page))
            };
            let mut had = false;
            if let Some(parent) = parent.filter(|_| holds != Portion::Free) {
                parent.read_at(page.offset(), &mut before)?;
                had = before == bytes;
            }
            if !matches!(holds, Portion::Free | Portion::OnDisk) {
                had |= !seen.insert(hash);
            }
            if let Some(slot) = pages.get_mut(page.0 as usize) {
                *slot = Page { holds, had };
            }
            Ok(())
        })?;
        Ok(Self { pages, kernel: found.kernel.release })
    }

    /// Pages of which `keep` is true, by what they hold.
    pub(crate) fn count(&self, keep: impl Fn(PageIndex, Page) -> bool) -> Portions {
        let mut counted = Portions::default();
        for (known, page) in self.pages.iter().zip(0u32..) {
            if keep(PageIndex(page), *known) {
                counted.add_page(known.holds);
            }
        }
        counted
    }

    /// All RAM.
    pub(crate) fn all(&self) -> Portions {
        self.count(|_, _| true)
    }

    /// RAM that is not zero.
    pub(crate) fn non_zero(&self) -> Portions {
        self.count(|_, page| page.holds != Portion::Zero)
    }
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::{PAGE_SHIFT, Pfn};
    use dormouse_introspect::testing::{Guest, Shape, Use};

    use super::*;

    const TAKEN: u64 = 3000;

    /// A guest of which page `TAKEN + i` holds `content[i]`.
    fn guest(content: &[(Use, u8)]) -> Guest {
        let mut guest = Guest::new(Shape { page_table_levels: 4, top_byte_types: false, hole: false });
        for ((usage, byte), pfn) in content.iter().zip(TAKEN..) {
            guest.mark(Pfn(pfn), *usage);
            guest.ram.write(pfn << PAGE_SHIFT, &[*byte; PAGE_SIZE]);
        }
        guest
    }

    #[test]
    fn a_page_is_of_the_first_portion_that_fits_and_known_when_it_was_there_before() {
        let content = [
            (Use::PageCache, 1),
            (Use::PageCache, 2),
            (Use::Anonymous, 1),
            (Use::Anonymous, 3),
            (Use::Anonymous, 3),
            (Use::Kernel, 4),
            (Use::Offline, 5),
            (Use::Shmem, 0),
            (Use::PageCache, 1),
        ];
        let mut parent = vec![(Use::Kernel, 9), (Use::Kernel, 2)];
        parent.resize(content.len(), (Use::Kernel, 9));
        parent[6..].copy_from_slice(&[(Use::Kernel, 5), (Use::Kernel, 0), (Use::Kernel, 1)]);
        let (guest, parent) = (guest(&content), guest(&parent));
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, [1; PAGE_SIZE]).unwrap();
        let mut blocks = BlockHashes::default();
        blocks.add(&disk).unwrap();

        let census = Census::take(&guest.ram, &guest.layout, &[&blocks], Some(&parent.ram)).unwrap();
        let found: Vec<_> =
            census.pages[3000..].iter().take(content.len()).map(|page| (page.holds, page.had)).collect();
        let expected = [
            (Portion::OnDisk, false),
            (Portion::Cache, true),
            (Portion::OnDisk, false),
            (Portion::Processes, false),
            (Portion::Processes, true),
            (Portion::Kernel, false),
            (Portion::Free, false),
            (Portion::Zero, false),
            (Portion::OnDisk, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(census.all().total(), guest.layout.len());
    }
}
