//! Which pages of a private mapping are the process's own.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::pagemap_scan;

/// One entry of `/proc/PID/pagemap` (`Documentation/admin-guide/mm/pagemap.rst` in Linux).
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Page of a file or shared memory; clear for a page that the process copied for itself.
const FILE_OR_SHARED: u64 = 1 << 61;
const ENTRIES_AT_ONCE: u64 = 64 << 10;

/// Calls `found` with the parts of `addresses` whose pages the process owns: those of a private mapping that it wrote to. Parts
/// are ascending and page-aligned, and may touch each other.
///
/// A page that is not reported has the bytes of the mapped file, whether it is in memory or not. `pagemap` is the process's
/// `/proc/PID/pagemap`. Blocks for up to 20 ms per GiB that the process owns.
///
/// # Errors
/// What the kernel says; `InvalidInput` unless the addresses are page-aligned.
pub fn own_pages(pagemap: &File, addresses: Range<u64>, found: &mut dyn FnMut(Range<u64>)) -> io::Result<()> {
    let page = page_size();
    if !addresses.start.is_multiple_of(page) || !addresses.end.is_multiple_of(page) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match pagemap_scan::own_pages(pagemap, addresses.clone(), found) {
        // Only the first call can say so: then nothing was reported yet.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTTY) => read_entries(pagemap, addresses, found),
        other => other,
    }
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// The same by reading an entry for each page.
fn read_entries(pagemap: &File, addresses: Range<u64>, found: &mut dyn FnMut(Range<u64>)) -> io::Result<()> {
    let page = page_size();
    let (mut next, end) = (addresses.start / page, addresses.end / page);
    let mut bytes = Vec::new();
    while next < end {
        let some = ENTRIES_AT_ONCE.min(end - next);
        bytes.resize(usize::try_from(some).unwrap_or(0) * ENTRY, 0);
        pagemap.read_exact_at(&mut bytes, next * ENTRY as u64)?;
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        for (entry, number) in entries.iter().zip(next..) {
            if is_own(u64::from_ne_bytes(*entry)) {
                found(number * page..(number + 1) * page);
            }
        }
        next += some;
    }
    Ok(())
}

fn is_own(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) != 0 && entry & FILE_OR_SHARED == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::tests::mapped_file;

    const PAGES: usize = 6000;

    type Finder = fn(&File, Range<u64>, &mut dyn FnMut(Range<u64>)) -> io::Result<()>;

    /// Numbers of the pages that `finder` reports of a private mapping of `PAGES` pages, with `touch` done to it before.
    fn found_by(finder: Finder, touch: impl Fn(&mut [u8])) -> Vec<u64> {
        let page = page_size();
        let mut mapping = mapped_file(PAGES, 7);
        touch(&mut mapping);
        let start = mapping.as_ptr() as u64;
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut numbers = Vec::new();
        finder(&pagemap, start..start + PAGES as u64 * page, &mut |range| {
            assert!(range.start.is_multiple_of(page) && range.start < range.end);
            numbers.extend((range.start - start) / page..(range.end - start) / page);
        })
        .unwrap();
        numbers
    }

    #[test]
    fn exactly_the_written_pages_are_found_by_either_way_also_where_they_are_many_and_apart() {
        let page = rustix::param::page_size();
        let written: Vec<u64> = (0..PAGES as u64).filter(|n| n % 2 == 0 || (50..80).contains(n)).collect();
        for finder in [own_pages as Finder, read_entries as Finder] {
            let found = found_by(finder, |mapping| {
                let read: u64 = mapping.chunks(page).map(|p| u64::from(p[0])).sum();
                assert_eq!(read, 7 * PAGES as u64, "every page was read, which makes none of them the process's own");
                written.iter().for_each(|n| mapping[*n as usize * page + 5] = 1);
            });
            assert_eq!(found, written);
            assert_eq!(found_by(finder, |_| {}), Vec::<u64>::new());
        }
    }

    #[test]
    fn the_scan_is_there_on_a_kernel_that_has_it() {
        let release = rustix::system::uname();
        let mut numbers = release.release().to_str().unwrap().split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let scanned = pagemap_scan::own_pages(&pagemap, 0..page_size(), &mut |_| {});
        assert_eq!(scanned.is_ok(), version >= (6, 7), "{version:?}: {scanned:?}");
    }

    #[test]
    fn addresses_that_are_no_pages_are_refused() {
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        assert!(own_pages(&pagemap, 1..page_size(), &mut |_| {}).is_err());
        assert!(own_pages(&pagemap, 0..page_size() - 1, &mut |_| {}).is_err());
    }

    #[test]
    fn only_present_or_swapped_pages_that_are_no_files_are_own() {
        assert!(is_own(PRESENT));
        assert!(is_own(SWAPPED));
        assert!(!is_own(0), "never touched");
        assert!(!is_own(PRESENT | FILE_OR_SHARED), "read only");
        assert!(!is_own(SWAPPED | FILE_OR_SHARED), "shared memory that is swapped out");
    }
}
