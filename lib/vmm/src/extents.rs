//! Which parts of a file hold data.

use std::fs::File;
use std::io;
use std::ops::Range;

use dormouse_guest_mem::PAGE_SIZE;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Page-aligned ranges of the first `len` bytes of `file`, ascending and apart, outside of which it has only holes.
///
/// Moves the file's position. A file system that knows no holes gives the whole file.
pub(super) fn data(file: &File, len: u64) -> io::Result<Vec<Range<u64>>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < len => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(len);
        if end <= start {
            break;
        }
        push(&mut found, align_down(start)..align_up(end).min(len));
        at = end;
    }
    Ok(found)
}

/// The union of two ascending lists.
pub(super) fn union(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all = a.iter().chain(b).cloned().collect::<Vec<_>>();
    all.sort_by_key(|r| r.start);
    let mut joined = Vec::new();
    for range in all {
        push(&mut joined, range);
    }
    joined
}

/// Adds a range that does not start before the last one, joining the two when they touch.
pub(super) fn push(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
        _ => ranges.push(next),
    }
}

fn align_down(at: u64) -> u64 {
    at - at % PAGE_SIZE as u64
}

fn align_up(at: u64) -> u64 {
    at.next_multiple_of(PAGE_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn data_between_holes_is_found_and_a_hole_at_the_end_ends_the_search() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 * PAGE).unwrap();
        assert_eq!(data(&file, 100 * PAGE).unwrap(), []);
        file.write_all_at(b"x", 3 * PAGE + 5).unwrap();
        file.write_all_at(&[1; 2 * PAGE_SIZE], 50 * PAGE).unwrap();
        assert_eq!(data(&file, 100 * PAGE).unwrap(), [3 * PAGE..4 * PAGE, 50 * PAGE..52 * PAGE]);
    }

    #[test]
    fn the_union_joins_what_overlaps_or_touches() {
        let joined = union(&[0..4, 10..12, 20..30], &[4..6, 11..15, 22..24]);
        assert_eq!(joined, [0..6, 10..15, 20..30]);
    }
}
