//! Making a disk index from the disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, is_zero};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{DiskIndex, MAX_DISK_LEN, MAX_ENTRIES};
use crate::digest::Digest;
use crate::error::WriteError;
use crate::page_hash::PageHash;
use crate::progress::Progress;

const BLOCK: u64 = PAGE_SIZE as u64;
/// Bytes that a thread reads at a time.
const PART: u64 = 1 << 18;

struct Job<'a> {
    disk: &'a File,
    parts: Vec<Range<u64>>,
    total: u64,
    progress: &'a dyn Progress,
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
}

type Entries = Vec<(PageHash, u32)>;

impl DiskIndex {
    /// Reads the allocated parts of `disk` with so many threads (1 to 64). The same content gives the same index. Bytes
    /// after the last whole block are left out.
    ///
    /// # Errors
    /// [`WriteError`]: the disk can not be read or is too large, or the caller cancelled.
    pub fn build(disk: &File, threads: usize, progress: &dyn Progress) -> Result<Self, WriteError> {
        Self::build_with_content(disk, threads, progress).map(|(index, _)| index)
    }

    /// As [`build`](Self::build), and the identity of all of the disk's whole blocks: it changes with any of them, wherever
    /// else the same bytes are. Like the index it detects damage, and nobody who means to deceive.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with_content(
        disk: &File,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<(Self, Digest), WriteError> {
        let len = disk.metadata().map_err(|source| WriteError::DiskRead { offset: 0, source })?.len();
        if len > MAX_DISK_LEN {
            return Err(WriteError::DiskTooLarge { len: Bytes(len) });
        }
        let whole = len / BLOCK * BLOCK;
        let extents = allocated(disk, whole)?;
        let total = extents.iter().map(|extent| extent.end - extent.start).sum();
        let parts = extents.into_iter().flat_map(|extent| {
            let end = extent.end;
            extent.step_by(PART as usize).map(move |start| start..end.min(start + PART))
        });
        let job = Job {
            disk,
            parts: parts.collect(),
            total,
            progress,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let made: Result<Vec<Entries>, WriteError> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.clamp(1, 64)).map(|_| scope.spawn(|| job.work())).collect();
            let died = |_| Err(WriteError::DiskRead { offset: 0, source: io::Error::other("a reading thread died") });
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(died)).collect()
        });
        let mut entries: Entries = made?.concat();
        // Equal hashes in the order of their blocks, so that the first one stays.
        entries.sort_unstable();
        let content = content_of(len, &entries);
        entries.dedup_by_key(|(hash, _)| *hash);
        entries.truncate(MAX_ENTRIES);
        let (hashes, blocks) = entries.into_iter().unzip();
        Ok((Self::new(len, hashes, blocks), content))
    }
}

/// BLAKE3 over the disk's length and, in the order of their hashes, hash and number of every block that is not zero.
fn content_of(len: u64, entries: &Entries) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dormdsk\0").update(&len.to_le_bytes());
    let mut batch = Vec::new();
    for some in entries.chunks(1 << 12) {
        batch.clear();
        for (hash, block) in some {
            batch.extend_from_slice(&hash.low.to_le_bytes());
            batch.extend_from_slice(&hash.high.to_le_bytes());
            batch.extend_from_slice(&block.to_le_bytes());
        }
        hasher.update(&batch);
    }
    Digest(*hasher.finalize().as_bytes())
}

impl Job<'_> {
    fn work(&self) -> Result<Entries, WriteError> {
        let (mut entries, mut buffer) = (Vec::new(), vec![0; PART as usize]);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(part) = self.parts.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = self.hash(part, &mut buffer, &mut entries) {
                self.stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(entries)
    }

    fn hash(&self, part: &Range<u64>, buffer: &mut [u8], entries: &mut Entries) -> Result<(), WriteError> {
        if self.progress.cancelled() {
            return Err(WriteError::Cancelled);
        }
        let len = part.end - part.start;
        let bytes = buffer.get_mut(..len as usize).unwrap_or_default();
        let read = self.disk.read_exact_at(bytes, part.start);
        read.map_err(|source| WriteError::DiskRead { offset: part.start, source })?;
        let blocks = (part.start / BLOCK) as u32..;
        let used = bytes.chunks_exact(PAGE_SIZE).zip(blocks).filter(|(page, _)| !is_zero(page));
        entries.extend(used.map(|(page, block)| (PageHash::of(page), block)));
        let done = self.done.fetch_add(len, Ordering::Relaxed) + len;
        self.progress.advance(Bytes(done), Bytes(self.total));
        Ok(())
    }
}

/// The parts of the first `len` bytes that are not holes, as whole blocks.
fn allocated(disk: &File, len: u64) -> Result<Vec<Range<u64>>, WriteError> {
    let failed = |offset| move |errno: Errno| WriteError::DiskRead { offset, source: errno.into() };
    let mut out: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match seek(disk, SeekFrom::Data(at)) {
            Ok(start) => start / BLOCK * BLOCK,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(failed(at)(errno)),
        };
        let hole = seek(disk, SeekFrom::Hole(start.max(at))).map_err(failed(start))?;
        let end = hole.next_multiple_of(BLOCK).min(len);
        // A file system that says that data ends where it starts is not asked again for the same place.
        at = end.max(at + BLOCK);
        match out.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ if start < end => out.push(start..end),
            _ => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_blocks_the_first_one_is_found() {
        let (disk, block) = (tempfile::tempfile().unwrap(), |byte: u8| [byte; PAGE_SIZE]);
        let content: Vec<u8> = [0, 3, 1, 3, 2, 1, 3].into_iter().flat_map(block).collect();
        disk.write_all_at(&content, 0).unwrap();
        let index = DiskIndex::build(&disk, 2, &()).unwrap();
        let found = [0, 1, 2, 3].map(|byte| index.find(PageHash::of(&block(byte))));
        assert_eq!(found, [None, Some(2), Some(4), Some(1)]);
    }
}
