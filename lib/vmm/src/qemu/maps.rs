//! Where a process has mapped a file (`/proc/PID/maps`, `proc_pid_maps(5)`).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

/// One private mapping of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Address of the first byte in the process.
    pub(super) address: u64,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
}

/// How `maps` names a file.
pub(super) struct FileName {
    device: (u32, u32),
    inode: u64,
    path: String,
}

impl FileName {
    /// The names of an open file.
    pub(super) fn of(file: &File, path: &Path) -> io::Result<Self> {
        let found = file.metadata()?;
        let device = (major(found.dev()), minor(found.dev()));
        let path = path.canonicalize()?.to_string_lossy().replace('\n', "\\012");
        Ok(Self { device, inode: found.ino(), path })
    }

    /// Some file systems (btrfs, overlayfs) show another device here than `stat` does: the path counts as well. It
    /// cannot be that of a file that took the mapped one's place: that one is then shown as deleted.
    fn is(&self, device: (u32, u32), inode: u64, path: &str) -> bool {
        (device == self.device && inode == self.inode) || path == self.path
    }
}

/// The private mappings of `file` in the text of `maps`, ascending by offset, if together they show the first `len`
/// bytes of it exactly once.
pub(super) fn covering(maps: &str, file: &FileName, len: u64) -> Option<Vec<Mapping>> {
    let mut found = maps.lines().filter_map(|line| mapping(line, file)).collect::<Vec<_>>();
    found.sort_by_key(|m| m.offset);
    let mut next = 0;
    for m in &found {
        if m.offset != next {
            return None;
        }
        next += m.len;
    }
    (next == len).then_some(found)
}

/// `7f0000000000-7f0020000000 rw-p 00000000 fe:00 1234   /path/of the file`
fn mapping(line: &str, file: &FileName) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let private = fields.next()?.ends_with('p');
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_start();
    let address = hex(start)?;
    let len = hex(end)?.checked_sub(address)?;
    (private && file.is(device, inode, path)).then_some(Mapping { address, offset, len })
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0100000 r-xp 00000000 fe:00 99                         /usr/bin/qemu-system-x86_64
7f0001000000-7f0001800000 rw-p 00800000 fe:00 1234                       /images/a b/ram
7f0002000000-7f0002800000 rw-p 00000000 fe:00 1234                       /images/a b/ram
7f0003000000-7f0003001000 rw-p 00000000 00:00 0 
7fffc0000000-7fffc0021000 rw-p 00000000 00:00 0                          [stack]
";

    fn name(device: (u32, u32), inode: u64, path: &str) -> FileName {
        FileName { device, inode, path: path.into() }
    }

    #[test]
    fn a_file_mapped_in_parts_is_put_together_by_offset() {
        let expected = [
            Mapping { address: 0x7f00_0200_0000, offset: 0, len: 0x80_0000 },
            Mapping { address: 0x7f00_0100_0000, offset: 0x80_0000, len: 0x80_0000 },
        ];
        let by_inode = name((0xfe, 0), 1234, "/elsewhere");
        let by_path = name((0, 57), 1234, "/images/a b/ram");
        for file in [by_inode, by_path] {
            assert_eq!(covering(MAPS, &file, 0x100_0000).as_deref(), Some(&expected[..]));
        }
    }

    #[test]
    fn a_file_mapped_with_gaps_twice_shared_or_not_at_all_is_refused() {
        let file = name((0xfe, 0), 1234, "/images/a b/ram");
        assert_eq!(covering(MAPS, &file, 0x200_0000), None, "too short");
        assert_eq!(covering(&MAPS.replace("00800000 fe", "00900000 fe"), &file, 0x100_0000), None, "gap");
        assert_eq!(covering(&MAPS.replace("00800000 fe", "00000000 fe"), &file, 0x100_0000), None, "twice");
        assert_eq!(covering(&MAPS.replace("rw-p", "rw-s"), &file, 0x100_0000), None, "shared");
        assert_eq!(covering(MAPS, &name((0xfe, 0), 1, "/other"), 0x100_0000), None, "another file");
    }
}
