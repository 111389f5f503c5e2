//! One pass over RAM, or over a disk.

use std::io;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, RamSource, is_zero};

/// Bytes that are read at once.
const PIECE: usize = 256 * PAGE_SIZE;

/// Gives every page that is not zero to `visit`, ascending.
pub(crate) fn each_non_zero(
    ram: &dyn RamSource,
    mut visit: impl FnMut(PageIndex, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for range in ram.populated()? {
        for offset in range.clone().step_by(PIECE) {
            let len = usize::try_from(range.end - offset).unwrap_or(PIECE).min(PIECE);
            let Some(part) = piece.get_mut(..len) else { continue };
            ram.read_at(offset, part)?;
            for (page, at) in part.chunks(PAGE_SIZE).zip((offset..).step_by(PAGE_SIZE)) {
                if !is_zero(page) {
                    visit(PageIndex(u32::try_from(at / PAGE_SIZE as u64).unwrap_or(u32::MAX)), page)?;
                }
            }
        }
    }
    Ok(())
}
