//! What the owner of the RAM file says about it, checked: that process is not trusted.

use std::ops::Range;

use dormouse_guest_mem::{PAGE_SHIFT, PAGE_SIZE, RamSource};

use crate::error::WriteError;

/// Number of whole pages.
pub(crate) fn pages_of(len: u64) -> u32 {
    u32::try_from(len >> PAGE_SHIFT).unwrap_or(u32::MAX)
}

/// The populated ranges as whole pages, ascending, without overlap.
pub(crate) fn populated(ram: &dyn RamSource) -> Result<Vec<Range<u32>>, WriteError> {
    let ranges = ram.populated().map_err(|source| WriteError::Ram { offset: 0, source })?;
    let mut out: Vec<Range<u32>> = Vec::new();
    let mut before = 0;
    for range in ranges {
        if range.start < before || range.end < range.start || range.end > ram.len() {
            return Err(WriteError::BadRanges { offset: range.start });
        }
        before = range.end;
        let (start, end) = (pages_of(range.start), pages_of(range.end.next_multiple_of(PAGE_SIZE as u64)));
        match out.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => out.push(start..end),
        }
    }
    Ok(out)
}
