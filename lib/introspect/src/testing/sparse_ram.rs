//! RAM of which only the written pages take memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use dormouse_guest_mem::{PAGE_SIZE, RamSource};

/// A RAM file that is zero where nothing was written.
#[derive(Clone)]
pub struct SparseRam {
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_SIZE]>>,
}

/// The parts of `offset..offset + len` by page: page number, range within the page.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let into = (at % PAGE_SIZE as u64) as usize;
        let take = (PAGE_SIZE - into).min(len - done);
        done += take;
        (take > 0).then_some((at / PAGE_SIZE as u64, into..into + take))
    })
}

impl SparseRam {
    /// Zeroes of `len` bytes, a multiple of the page size.
    #[must_use]
    pub fn new(len: u64) -> Self {
        Self { len, pages: BTreeMap::new() }
    }

    /// Overwrites what is inside the file.
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return;
        }
        for (page, range) in parts(offset, bytes.len()) {
            let Some((part, rest)) = bytes.split_at_checked(range.len()) else { return };
            bytes = rest;
            let page = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE_SIZE]));
            if let Some(slot) = page.get_mut(range) {
                slot.copy_from_slice(part);
            }
        }
    }
}

impl RamSource for SparseRam {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, range) in parts(offset, buf.len()) {
            let Some((part, rest)) = buf.split_at_mut_checked(range.len()) else { break };
            match self.pages.get(&page).and_then(|p| p.get(range)) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        let page = PAGE_SIZE as u64;
        Ok(self.pages.keys().map(|p| p * page..(p + 1) * page).collect())
    }
}
