//! The VMCOREINFO ELF note.
//!
//! Layout (`kernel/crash_core.c`, `append_elf_note`): name length, content length and type as 32-bit numbers, the
//! name padded to four bytes, then the content. The kernel fills it once, before user space runs.

use dormouse_guest_mem::GuestAddr;

use crate::ram::{Ram, Reached};
use crate::{NoteLocation, SurveyError};

/// `"VMCOREINFO\0"` is 11 bytes long and padded to 12.
const NAME: &[u8; 12] = b"VMCOREINFO\0\0";
const NAME_LEN: u32 = 11;
/// `NT_VMCOREINFO`: the kernel writes 0.
const TYPE: u32 = 0;
/// Bytes in front of the content.
pub(crate) const HEADER: usize = 12 + NAME.len();
/// Every kernel's first line; telling for a note that was found rather than named.
pub(crate) const FIRST_KEY: &[u8] = b"OSRELEASE=";

/// The length of the content by the note's header.
pub(crate) fn content_len(header: &[u8; HEADER]) -> Result<u32, &'static str> {
    let mut words = header.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w));
    let (name_len, len, kind) = (words.next(), words.next().unwrap_or(0), words.next());
    if name_len != Some(NAME_LEN) || kind != Some(TYPE) || !header.ends_with(NAME) {
        return Err("its header is not that of a VMCOREINFO note");
    }
    Ok(len)
}

/// Reads the note's content.
pub(crate) fn read(ram: &mut Ram<'_>, location: NoteLocation) -> Result<Vec<u8>, SurveyError> {
    if location.len > NoteLocation::MAX_LEN {
        return Err(SurveyError::NoteOutsideRam { location });
    }
    let mut header = [0u8; HEADER];
    if ram.read(location.addr, &mut header)? == Reached::NotRam {
        return Err(SurveyError::NoteOutsideRam { location });
    }
    let not_a_note = |reason| SurveyError::NotANote { location, reason };
    let len = content_len(&header).map_err(not_a_note)?;
    if u64::from(len) + HEADER as u64 > location.len {
        return Err(not_a_note("its content is longer than the room for it"));
    }
    let mut content = vec![0u8; len as usize];
    let start = GuestAddr(location.addr.0 + HEADER as u64);
    if ram.read(start, &mut content)? == Reached::NotRam {
        return Err(SurveyError::NoteOutsideRam { location });
    }
    if !content.starts_with(FIRST_KEY) {
        return Err(not_a_note("its content does not start with the kernel's release"));
    }
    Ok(content)
}
