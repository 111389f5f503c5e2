//! Reading the RAM of a paused guest.

use std::io;
use std::ops::Range;

/// The RAM file of a guest whose vCPUs are stopped, as bytes.
///
/// Memory is *read*, never mapped: the VMM that owns it may be compromised and could shrink the file under a
/// mapping, which would end this process with SIGBUS; a read only fails. While the vCPUs are stopped two reads
/// of the same place give the same bytes unless the VMM misbehaves, so decoders must check every read by itself.
pub trait RamSource: Sync {
    /// Size of the RAM file in bytes; a multiple of the page size.
    fn len(&self) -> u64;

    /// Whether there is no RAM at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Any I/O error of the backing; `UnexpectedEof` past the end. `buf` is then unspecified.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Page-aligned byte ranges, ascending, outside of which every byte is known to be zero without reading.
    ///
    /// # Errors
    /// Any I/O error of the backing.
    fn populated(&self) -> io::Result<Vec<Range<u64>>>;
}

impl RamSource for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = from.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(self.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![0..self.len() as u64])
    }
}

impl RamSource for Vec<u8> {
    fn len(&self) -> u64 {
        RamSource::len(self.as_slice())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        self.as_slice().populated()
    }
}

/// Whether every byte is zero. Runs at memory speed: the compiler turns the inner loop into vector code.
#[must_use]
pub fn is_zero(page: &[u8]) -> bool {
    let (blocks, rest) = page.as_chunks::<128>();
    blocks.iter().all(|b| b.iter().fold(0u8, |acc, x| acc | x) == 0) && rest.iter().all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_set_bit_anywhere_is_seen() {
        let mut page = vec![0u8; 4096 + 5];
        assert!(is_zero(&page));
        for at in [0, 1, 63, 127, 128, 4095, 4096, 4100] {
            page[at] = 1;
            assert!(!is_zero(&page), "byte {at}");
            page[at] = 0;
        }
    }

    #[test]
    fn reading_past_the_end_fails_instead_of_panicking() {
        let ram = vec![1u8; 4096];
        let mut buf = [0u8; 8];
        assert!(ram.read_at(4092, &mut buf).is_err());
        assert!(ram.read_at(u64::MAX, &mut buf).is_err());
        assert!(ram.read_at(4088, &mut buf).is_ok());
    }
}
