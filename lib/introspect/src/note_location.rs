//! Where the guest says its VMCOREINFO note lies.

use std::fmt;
use std::str::FromStr;

use dormouse_guest_mem::GuestAddr;

/// Where a VMCOREINFO note lies in guest physical memory. A claim of the guest: nothing is checked but the syntax.
///
/// Parses the text of `/sys/kernel/vmcoreinfo`, `0xPADDR HEXSIZE` (`kernel/ksysfs.c`), and displays as that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteLocation {
    /// Guest physical address of the note's first byte.
    pub addr: GuestAddr,
    /// Room for the note in bytes; the note itself may be shorter. 1 to [`NoteLocation::MAX_LEN`] when parsed.
    pub len: u64,
}

/// Why a text is no [`NoteLocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the text of /sys/kernel/vmcoreinfo, which is `0xADDRESS SIZE` in hexadecimal")]
pub struct NoteLocationError;

impl NoteLocation {
    /// The longest note that is read. Kernels reserve one page for its content (`VMCOREINFO_BYTES`).
    pub const MAX_LEN: u64 = 64 << 10;

    /// Two 64-bit numbers, a prefix, a blank and a line end fit with room to spare.
    const MAX_TEXT: usize = 64;
}

impl FromStr for NoteLocation {
    type Err = NoteLocationError;

    fn from_str(text: &str) -> Result<Self, NoteLocationError> {
        if text.len() > Self::MAX_TEXT {
            return Err(NoteLocationError);
        }
        let (addr, len) = text.trim_ascii().split_once(' ').ok_or(NoteLocationError)?;
        let addr = hex(addr.strip_prefix("0x").ok_or(NoteLocationError)?)?;
        let len = hex(len.strip_prefix("0x").unwrap_or(len))?;
        let plausible = (1..=Self::MAX_LEN).contains(&len);
        plausible.then_some(Self { addr: GuestAddr(addr), len }).ok_or(NoteLocationError)
    }
}

/// Unlike `from_str_radix`, takes no sign.
fn hex(digits: &str) -> Result<u64, NoteLocationError> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(NoteLocationError);
    }
    u64::from_str_radix(digits, 16).map_err(|_| NoteLocationError)
}

impl fmt::Display for NoteLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:x}", self.addr, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_text_is_understood() {
        let expected = NoteLocation { addr: GuestAddr(0x1_0060_6000), len: 0x1024 };
        assert_eq!("0x100606000 1024\n".parse(), Ok(expected));
        assert_eq!("0x0000000100606000 1024".parse(), Ok(expected));
        assert_eq!(expected.to_string().parse(), Ok(expected));
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("0x{:0>70} 1024", 1);
        for text in [
            "",
            "0x1000",
            "1000 1024",
            "0x1000 0",
            "0x1000 10001",
            "0x1000 -1",
            "0x+1000 1024",
            "0x1000  1024",
            "0x1ffffffffffffffff 1024",
            "0x 1024",
            "0x1000 1024 7",
            "0xé 1024",
            &long,
        ] {
            assert_eq!(text.parse::<NoteLocation>(), Err(NoteLocationError), "{text:?}");
        }
    }
}
