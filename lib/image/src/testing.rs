//! For tests and fuzzers: makes changed images pass the hash checks, so that what comes after the checks is reached.

use std::io;

use zerocopy::{FromBytes, IntoBytes};

use crate::digest::ImageRoot;
pub use crate::disk_index::reseal as reseal_disk_index;
use crate::image::format;
pub use crate::pack::reseal as reseal_pack;
use crate::v1::format::{FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, HEADER_MAGIC, Header, VERSION, root_of};

/// Length of a frame record, and where in it the file offset, stored length and checksum are.
const FRAME_RECORD: usize = 48;

/// The file of an image index of version 2 with this body, and its root.
///
/// # Errors
/// The compressor failed.
pub fn seal_index(ram_len: u64, body: &[u8]) -> io::Result<(Vec<u8>, ImageRoot)> {
    format::seal(ram_len, body)
}

/// Repairs magics, version, index place, frame checksums and root hash of `image`, one of version 1, in place, as far as its numbers lie
/// within it, and leaves everything else as it is. `index_offset` in the footer is trusted if it fits, else set to the
/// end of the header.
pub fn reseal_v1(image: &mut [u8]) -> Option<()> {
    let body_len = image.len().checked_sub(FOOTER_LEN as usize)?;
    let (body, footer_bytes) = image.split_at_mut_checked(body_len)?;
    let (mut footer, _) = Footer::read_from_prefix(footer_bytes).ok()?;
    let in_body =
        usize::try_from(footer.index_offset.get()).ok().filter(|at| (HEADER_LEN as usize..=body_len).contains(at));
    let index_offset = in_body.unwrap_or(HEADER_LEN as usize);
    let (front, index) = body.split_at_mut_checked(index_offset)?;
    reseal_frames(front, index);
    let (header, _) = Header::mut_from_prefix(front).ok()?;
    (header.magic, header.version, header.flags) = (HEADER_MAGIC, VERSION.into(), 0.into());
    footer.root = root_of(header, index).0.0;
    (footer.magic, footer.reserved) = (FOOTER_MAGIC, [0; 8]);
    (footer.index_offset, footer.index_len) = ((index_offset as u64).into(), (index.len() as u64).into());
    footer_bytes.copy_from_slice(footer.as_bytes());
    Some(())
}

fn reseal_frames(front: &[u8], index: &mut [u8]) -> Option<()> {
    let counts = index.first_chunk::<12>()?;
    let count = |at: usize| Some(u32::from_le_bytes(*counts.get(at..)?.first_chunk()?) as usize);
    let table = 16usize.checked_add(count(0)?.checked_mul(24)?)?.checked_add(count(4)?.checked_mul(8)?)?;
    for record in index.get_mut(table..)?.chunks_exact_mut(FRAME_RECORD) {
        let offset = usize::try_from(u64::from_le_bytes(*record.first_chunk()?)).ok()?;
        let len = u32::from_le_bytes(*record.get(8..)?.first_chunk()?) as usize;
        let stored = offset.checked_add(len).and_then(|end| front.get(offset..end));
        if let (Some(stored), Some(checksum)) = (stored, record.get_mut(16..)) {
            checksum.copy_from_slice(blake3::hash(stored).as_bytes());
        }
    }
    Some(())
}
