//! What a pass over RAM found out, small enough to be held for all of it.

use crate::disk::DiskSlot;

/// Where a run of pages comes from, as far as the first pass can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DraftSource {
    Zero,
    Free,
    /// Pages of a pack of the parent, by its number there.
    Parent {
        pack: u16,
        at: u32,
    },
    /// Blocks of a disk. Each such run has a hash.
    Disk {
        slot: DiskSlot,
        block: u32,
    },
    /// Nowhere yet: data, or equal to an earlier page.
    New,
}

/// A run of pages within a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DraftRun {
    pub(super) pages: u16,
    pub(super) source: DraftSource,
}

/// One chunk of RAM.
#[derive(Debug, Default)]
pub(super) struct ChunkDraft {
    pub(super) runs: Vec<DraftRun>,
    /// BLAKE3 of each run of disk blocks.
    pub(super) disk_hashes: Vec<[u8; 32]>,
    /// BLAKE3 of the chunk.
    pub(super) digest: [u8; 32],
}

impl ChunkDraft {
    /// Adds one page; not for disk blocks.
    pub(super) fn push(&mut self, source: DraftSource) {
        if let Some(last) = self.runs.last_mut() {
            let goes_on = match (last.source, source) {
                (DraftSource::Parent { pack, at }, DraftSource::Parent { pack: next_pack, at: next_at }) => {
                    pack == next_pack && at.checked_add(last.pages.into()) == Some(next_at)
                }
                (DraftSource::Disk { .. }, _) => false,
                (last, next) => last == next,
            };
            if goes_on {
                last.pages += 1;
                return;
            }
        }
        self.runs.push(DraftRun { pages: 1, source });
    }
}
