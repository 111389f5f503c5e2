//! Which release a bzImage says it is (Documentation/arch/x86/boot.rst, "kernel_version").

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::BuildError;
use crate::error::AtPath;

/// Setup code is at most 64 sectors of 512 bytes, after the boot sector.
const SETUP_MAX: u64 = 65 * 512;
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const VERSION_POINTER: usize = 0x20e;

/// The release, as `uname -r` will say it; `None` when the file is no bzImage or does not tell.
pub(super) fn release(path: &Path) -> Result<Option<String>, BuildError> {
    let mut setup = Vec::new();
    File::open(path).and_then(|file| file.take(SETUP_MAX).read_to_end(&mut setup)).at(path)?;
    Ok(parse(&setup))
}

fn parse(setup: &[u8]) -> Option<String> {
    if !setup.get(MAGIC.0..)?.starts_with(MAGIC.1) {
        return None;
    }
    let pointer = setup.get(VERSION_POINTER..)?.first_chunk::<2>()?;
    let text = setup.get(usize::from(u16::from_le_bytes(*pointer)) + 0x200..)?;
    let word = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
    let word = std::str::from_utf8(word).ok()?;
    let plain =
        !word.is_empty() && word.len() < 65 && word.chars().all(|c| c.is_ascii_alphanumeric() || "-+._~".contains(c));
    plain.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_release_is_the_first_word_of_the_version() {
        let mut setup = vec![0; 0x400];
        setup[0x202..0x206].copy_from_slice(b"HdrS");
        setup[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        setup[0x300..0x310].copy_from_slice(b"6.1.0-56 (deb) #");
        assert_eq!(parse(&setup).as_deref(), Some("6.1.0-56"));
        setup[0x20e..0x210].copy_from_slice(&0xffff_u16.to_le_bytes());
        assert_eq!(parse(&setup), None);
        assert_eq!(parse(b"\x7fELF"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut setup in proptest::collection::vec(any::<u8>(), 0x206..0x800)) {
            setup[0x202..0x206].copy_from_slice(b"HdrS");
            let _ = parse(&setup);
        }
    }
}
