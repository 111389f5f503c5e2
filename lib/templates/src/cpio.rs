//! Writes cpio archives in the "new ASCII" format, as the kernel unpacks them into its first root filesystem
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive being written. Everything belongs to root and was changed at the epoch, so that equal content gives
/// equal bytes.
pub(crate) struct Cpio<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Cpio<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY | 0o755, &[], (0, 0))
    }

    pub(crate) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | permissions, content, (0, 0))
    }

    pub(crate) fn character_device(&mut self, name: &str, permissions: u32, number: (u32, u32)) -> io::Result<()> {
        self.entry(name, CHARACTER | permissions, &[], number)
    }

    /// Ends the archive and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) -> io::Result<()> {
        self.entries += 1;
        let too_large = |_| io::Error::new(io::ErrorKind::FileTooLarge, "a cpio member holds at most 4 GiB");
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let (uid, gid, links, mtime, check) = (0, 0, 1, 0, 0);
        write!(self.out, "070701")?;
        for field in [self.entries, mode, uid, gid, links, mtime, size, 0, 0, device.0, device.1, name_size, check] {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        // The header has 110 bytes; name and content both end on a multiple of four.
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all([0; 3].get(..written.next_multiple_of(4) - written).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_looks_as_the_kernel_documents_it() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.file("init", 0o755, b"abcde").unwrap();
        cpio.character_device("dev/console", 0o600, (5, 1)).unwrap();
        let bytes = cpio.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let head = "07070100000001000081ED000000000000000000000001000000000000000500000000000000000000000000000000\
                    0000000500000000init\x00\x00abcde\x00\x00\x00070701";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("00002180") && text.contains("0000000500000001"));
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"));
    }
}
