//! Guest memory by the kernel's virtual addresses.

use dormouse_guest_mem::PAGE_SIZE;

use crate::SurveyError;
use crate::page_table::{AddressSpace, VirtAddr, Walk};
use crate::ram::{Ram, Reached};

/// The kernel's view of the paused guest's RAM.
pub(crate) struct KernelMemory<'a> {
    pub(crate) ram: Ram<'a>,
    space: AddressSpace,
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes at the start of the buffer that were filled.
    pub(crate) filled: usize,
    /// When not all were: from the first unfilled byte on, at least this many cannot be read either.
    pub(crate) unmapped: u64,
}

impl<'a> KernelMemory<'a> {
    pub(crate) fn new(ram: Ram<'a>, space: AddressSpace) -> Self {
        Self { ram, space }
    }

    /// Fills the start of `buf` from `va`, up to the first byte that is not mapped to RAM.
    pub(crate) fn read(&mut self, va: VirtAddr, buf: &mut [u8]) -> Result<Extent, SurveyError> {
        let mut filled = 0usize;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let Some(at) = va.0.checked_add(filled as u64) else { return Ok(Extent { filled, unmapped: 1 }) };
            let (addr, left) = match self.space.walk(&mut self.ram, VirtAddr(at))? {
                Walk::Mapped { addr, left } => (addr, left),
                Walk::Unmapped { left } => return Ok(Extent { filled, unmapped: left }),
            };
            let take = left.min(self.ram.contiguous(addr)).min(rest.len() as u64);
            let part = usize::try_from(take).ok().and_then(|take| rest.get_mut(..take)).unwrap_or_default();
            if part.is_empty() || self.ram.read(addr, part)? == Reached::NotRam {
                let unmapped = PAGE_SIZE as u64 - addr.0 % PAGE_SIZE as u64;
                return Ok(Extent { filled, unmapped });
            }
            filled += part.len();
        }
        Ok(Extent { filled, unmapped: 0 })
    }

    /// Remembers the pages of RAM behind `len` bytes at `va` as the kernel's own, without reading them.
    pub(crate) fn claim(&mut self, va: VirtAddr, len: u64) -> Result<(), SurveyError> {
        let mut done = 0u64;
        while done < len {
            let Some(at) = va.0.checked_add(done) else { return Ok(()) };
            done += match self.space.walk(&mut self.ram, VirtAddr(at))? {
                Walk::Unmapped { left } => left,
                Walk::Mapped { addr, left } => {
                    let ram = self.ram.contiguous(addr).min(left).min(len - done);
                    self.ram.claim(addr, ram);
                    ram.max(PAGE_SIZE as u64 - addr.0 % PAGE_SIZE as u64)
                }
            };
        }
        Ok(())
    }

    /// The little-endian number at `va`, or `None` when it is not mapped to RAM.
    pub(crate) fn read_u64(&mut self, va: VirtAddr) -> Result<Option<u64>, SurveyError> {
        let mut bytes = [0u8; 8];
        let whole = self.read(va, &mut bytes)?.filled == bytes.len();
        Ok(whole.then(|| u64::from_le_bytes(bytes)))
    }
}
