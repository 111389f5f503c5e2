//! Pages of one image that have the same bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, RamSource};

use crate::error::WriteError;
use crate::page_hash::PageHash;
use crate::progress::Progress;

/// Comparisons between two looks at whether the caller has cancelled.
const LOOK_EVERY: u64 = 4096;

/// A page, and an earlier one with the same bytes. Each is only ever a page whose equal is not a duplicate itself.
pub(super) type Duplicate = (u32, u32);

/// Finds the duplicates among pages with these hashes, ascending by page. Equal hashes are confirmed by comparing bytes: a
/// guest can make pages that have the same hash, and then only its own pages are stored twice.
pub(super) fn find(
    ram: &dyn RamSource,
    mut hashes: Vec<(PageHash, u32)>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Duplicate>, WriteError> {
    // So the result does not depend on which thread looked at which page first.
    hashes.sort_unstable();
    let groups: Vec<&[(PageHash, u32)]> =
        hashes.chunk_by(|(a, _), (b, _)| a == b).filter(|group| group.len() > 1).collect();
    let done = AtomicU64::new(0);
    let share = groups.len().div_ceil(threads.clamp(1, 64)).max(1);
    let found: Result<Vec<_>, WriteError> = thread::scope(|scope| {
        let workers: Vec<_> =
            groups.chunks(share).map(|groups| scope.spawn(|| compare(ram, groups, &done, progress))).collect();
        let died = |_| Err(WriteError::Compress { source: std::io::Error::other("a comparing thread died") });
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect()
    });
    let mut found = found?.concat();
    found.sort_unstable();
    Ok(found)
}

fn compare(
    ram: &dyn RamSource,
    groups: &[&[(PageHash, u32)]],
    done: &AtomicU64,
    progress: &dyn Progress,
) -> Result<Vec<Duplicate>, WriteError> {
    let (mut first_bytes, mut bytes) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let mut found = Vec::new();
    for group in groups {
        let Some(((_, first), others)) = group.split_first() else { continue };
        read(ram, *first, &mut first_bytes)?;
        for (_, page) in others {
            if done.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) && progress.cancelled() {
                return Err(WriteError::Cancelled);
            }
            read(ram, *page, &mut bytes)?;
            if bytes == first_bytes {
                found.push((*page, *first));
            }
        }
    }
    Ok(found)
}

fn read(ram: &dyn RamSource, page: u32, buf: &mut [u8]) -> Result<(), WriteError> {
    let offset = PageIndex(page).offset();
    ram.read_at(offset, buf).map_err(|source| WriteError::Ram { offset, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_no_proof() {
        let page = |byte: u8| [byte; PAGE_SIZE];
        let ram = [page(1), page(2), page(1), page(2), page(1), page(3)].concat();
        let same = PageHash { high: 1, low: 1 };
        // A guest that makes pages with the same hash: they are compared with the first one.
        let crafted = (0..6).map(|page| (same, page)).collect();
        assert_eq!(find(&ram, crafted, 2, &()).unwrap(), [(2, 0), (4, 0)]);
        let honest = (0..6).map(|at| (PageHash::of(&ram[at * PAGE_SIZE..][..PAGE_SIZE]), at as u32)).collect();
        assert_eq!(find(&ram, honest, 1, &()).unwrap(), [(2, 0), (3, 1), (4, 0)]);
    }
}
