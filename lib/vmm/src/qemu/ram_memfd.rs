//! RAM of a booted VM: the memfd that QEMU made for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use dormouse_guest_mem::{Bytes, RamSource};
use rustix::fs::OFlags;

use crate::{PausedRam, Restored, Result, VmmError, extents};

/// What the kernel shows for QEMU's memfd; the name is that of the memory backend's type.
const LINK_PREFIX: &str = "/memfd:memory-backend-memfd";

/// The RAM, read through a descriptor of our own: it stays readable whatever QEMU does with its own.
#[derive(Clone)]
pub(super) struct MemfdRam {
    file: Arc<File>,
    len: u64,
}

impl MemfdRam {
    /// Finds the memfd of `len` bytes among the process's descriptors.
    pub(super) fn find(pid: u32, len: u64) -> Result<Self> {
        let folder = format!("/proc/{pid}/fd");
        let entries = fs::read_dir(&folder).map_err(VmmError::io("list", &folder))?;
        let mut named = entries.flatten().map(|e| e.path()).filter(|p| is_memfd(p));
        let file = named.find_map(|path| open(&path, len).ok());
        let reason = || VmmError::Ram { reason: format!("process {pid} has no memfd of {len} bytes") };
        Ok(Self { file: Arc::new(file.ok_or_else(reason)?), len })
    }

    /// The memory that it takes.
    pub(super) fn allocated(&self) -> Result<Bytes> {
        let found = self.file.metadata().map_err(VmmError::io("examine", "guest RAM"))?;
        Ok(Bytes(found.blocks() * 512))
    }
}

fn is_memfd(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with(LINK_PREFIX))
}

/// A compromised QEMU may have put something else there since the name was read: opening it must not block.
fn open(path: &Path, len: u64) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.len() == len { Ok(file) } else { Err(io::ErrorKind::InvalidData.into()) }
}

impl RamSource for MemfdRam {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        extents::data(&self.file, self.len)
    }
}

impl PausedRam for MemfdRam {
    fn restored(&self) -> Option<Restored<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn only_a_memfd_of_the_guests_size_is_its_ram() {
        let (us, len) = (std::process::id(), 12 << 12);
        let file = File::from(memfd_create("memory-backend-memfd", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(len).unwrap();
        file.write_all_at(b"here", 0).unwrap();
        for other in [len - 4096, len + 4096] {
            let error = MemfdRam::find(us, other).err().unwrap();
            assert!(matches!(&error, VmmError::Ram { reason } if reason.contains("no memfd of")), "{error}");
        }
        let mut found = [0; 4];
        MemfdRam::find(us, len).unwrap().read_at(0, &mut found).unwrap();
        assert_eq!(&found, b"here");
        let other = File::from(memfd_create("another", MemfdFlags::CLOEXEC).unwrap());
        other.set_len(2 * len).unwrap();
        assert!(MemfdRam::find(us, 2 * len).is_err(), "a memfd of another name");
    }
}
