//! Which 4 KiB blocks disks hold, by their hashes: an oracle that shares no code with `lib/image`.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;
use dormouse_vmm::RamFile;

use crate::pages::each_non_zero;

/// Half of a BLAKE3 hash: no two blocks of all disks of the world are likely to share it.
pub(crate) type Hash = [u8; 16];

/// The hashes of blocks that are not zero.
#[derive(Debug, Default)]
pub(crate) struct BlockHashes {
    known: HashSet<Hash>,
}

/// The hash of a block or page.
pub(crate) fn hash(block: &[u8]) -> Hash {
    let whole = blake3::hash(block);
    let mut half = Hash::default();
    half.copy_from_slice(whole.as_bytes().first_chunk::<16>().unwrap_or(&Hash::default()));
    half
}

impl BlockHashes {
    /// Adds the blocks of a disk file.
    pub(crate) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let doing = || format!("read the disk {}", path.display());
        let disk = RamFile::open(path).with_context(doing)?;
        each_non_zero(&disk, |_, block| {
            self.known.insert(hash(block));
            Ok(())
        })
        .with_context(doing)
    }

    /// Whether some disk has this block.
    pub(crate) fn contains(&self, hash: &Hash) -> bool {
        self.known.contains(hash)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use dormouse_guest_mem::PAGE_SIZE;

    use super::*;

    #[test]
    fn blocks_of_a_sparse_disk_are_known_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 2 * PAGE_SIZE], 40 << 20).unwrap();
        let mut hashes = BlockHashes::default();
        hashes.add(&path).unwrap();
        assert!(hashes.contains(&hash(&[7; PAGE_SIZE])));
        assert!(!hashes.contains(&hash(&[8; PAGE_SIZE])));
        assert!(!hashes.contains(&hash(&[0; PAGE_SIZE])), "zero is nobody's");
    }
}
