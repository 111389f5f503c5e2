//! For tests and fuzzers: makes changed packs pass the hash checks.

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

use super::wire::{FOOTER_LEN, FOOTER_MAGIC, Footer, FrameRecord, HEADER_LEN, HEADER_MAGIC, Header, RECORD_LEN};
use super::{PackRef, VERSION, id_of};

/// Repairs magics, version, page size, place of the frame table, frame checksums and id of `pack` in place, as far as its
/// numbers lie within it, and leaves everything else as it is. Returns what it is to be named by.
pub fn reseal(pack: &mut [u8]) -> Option<PackRef> {
    let len = Bytes(pack.len() as u64);
    let body_len = pack.len().checked_sub(FOOTER_LEN as usize)?;
    let (body, footer_bytes) = pack.split_at_mut_checked(body_len)?;
    let (mut footer, _) = Footer::read_from_prefix(footer_bytes).ok()?;
    let (header, rest) = Header::mut_from_prefix(body).ok()?;
    (header.magic, header.version, header.flags) = (HEADER_MAGIC, VERSION.into(), 0.into());
    (header.page_size, header.reserved) = ((PAGE_SIZE as u32).into(), [0; 40]);
    let table_len = footer.extent.frames.get() as usize * RECORD_LEN as usize;
    let frames_len = rest.len().checked_sub(table_len)?;
    let (frames, table) = rest.split_at_mut_checked(frames_len)?;
    let mut stored = &*frames;
    for record in <[FrameRecord]>::mut_from_bytes(table).ok()? {
        let Some((now, later)) = stored.split_at_checked(record.stored_len.get() as usize) else { break };
        record.checksum = *blake3::hash(now).as_bytes();
        stored = later;
    }
    footer.extent.table_offset = (HEADER_LEN + frames_len as u64).into();
    let id = id_of(header, table, &footer.extent);
    (footer.id, footer.reserved, footer.magic) = (id.0.0, [0; 8], FOOTER_MAGIC);
    footer_bytes.copy_from_slice(footer.as_bytes());
    Some(PackRef { id, len })
}
