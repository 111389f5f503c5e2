//! The disk index as a file. All numbers are little endian; all reserved bytes are zero.
//!
//! ```text
//! 0             header     64 bytes       magic "dormdix\0", version, flags, size of the disk, number of entries
//! 64            hashes     16 bytes each  XXH3-128, low half first; ascending as numbers, no two alike
//! 64 + 16 n     blocks      4 bytes each  the first block with that hash
//! end - 32      checksum   32 bytes       BLAKE3 over everything before: the identity of the index
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use dormouse_guest_mem::{Bytes, PAGE_SIZE};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{DiskIndex, MAX_DISK_LEN, MAX_ENTRIES};
use crate::digest::Digest;
use crate::error::WriteError;
use crate::output::{is_full, room};
use crate::page_hash::PageHash;

const MAGIC: [u8; 8] = *b"dormdix\0";
const VERSION: u32 = 1;
const HEADER_LEN: usize = size_of::<Header>();
const CHECKSUM_LEN: usize = 32;
/// Bytes of one entry, both columns together.
const ENTRY_LEN: usize = size_of::<HashRecord>() + size_of::<u32>();

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    flags: U32,
    disk_len: U64,
    entries: U64,
    reserved: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HashRecord {
    low: U64,
    high: U64,
}

/// Why a disk index can not be used. It can be made again from the disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskIndexError {
    /// The file can not be read.
    #[error("disk index {} can not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not start like a disk index.
    #[error("{} is no disk index; remove it and it is made again", path.display())]
    NotADiskIndex {
        /// The file.
        path: PathBuf,
    },
    /// The index is of a later version.
    #[error("disk index {} has version {version}, newer than {VERSION}: upgrade dormouse, or remove it and it is made again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file was cut, or changed, or breaks a rule of its format.
    #[error("disk index {} is damaged: {reason}; remove it and it is made again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The rule.
        reason: &'static str,
    },
    /// The index is intact, but not the one that was meant.
    #[error("disk index {} is another one than was meant ({found} instead of {expected}): it belongs to another disk", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
}

impl DiskIndex {
    /// Writes the index into `out`, which must be an empty file, and returns its identity. Nothing is made durable.
    ///
    /// # Errors
    /// [`WriteError`]; `out` then holds rubbish that no reader accepts.
    pub fn write(&self, out: &File) -> Result<Digest, WriteError> {
        let fault = |error: io::Error| {
            if is_full(&error) {
                let needed = Bytes((HEADER_LEN + self.len() * ENTRY_LEN + CHECKSUM_LEN) as u64);
                WriteError::NoSpace { needed, available: room(out) }
            } else {
                WriteError::Output { source: error }
            }
        };
        let len = out.metadata().map_err(fault)?.len();
        if len != 0 {
            return Err(WriteError::NotEmpty { len: Bytes(len) });
        }
        let mut writer = BufWriter::with_capacity(1 << 18, out);
        let digest = self.emit(&mut |bytes| writer.write_all(bytes)).map_err(fault)?;
        writer.write_all(&digest.0).and_then(|()| writer.flush()).map_err(fault)?;
        Ok(digest)
    }

    /// Identity of the index, and so of the disk's content as far as finding pages goes: the same as its file has.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Hashing can not fail.
        self.emit(&mut |_| Ok(())).unwrap_or(Digest([0; 32]))
    }

    /// Gives all bytes before the checksum to `put`, and returns the checksum.
    fn emit(&self, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        let mut both = |bytes: &[u8]| {
            hasher.update(bytes);
            put(bytes)
        };
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            flags: 0.into(),
            disk_len: self.disk_len.into(),
            entries: (self.len() as u64).into(),
            reserved: [0; 32],
        };
        both(header.as_bytes())?;
        for part in self.hashes.chunks(4096) {
            let records: Vec<_> =
                part.iter().map(|hash| HashRecord { low: hash.low.into(), high: hash.high.into() }).collect();
            both(records.as_bytes())?;
        }
        for part in self.blocks.chunks(4096) {
            let records: Vec<_> = part.iter().map(|block| U32::from(*block)).collect();
            both(records.as_bytes())?;
        }
        Ok(Digest(*hasher.finalize().as_bytes()))
    }

    /// Reads an index; with `expect`, only the one that has this identity.
    ///
    /// # Errors
    /// [`DiskIndexError`], naming `path` and what is wrong.
    pub fn read(path: &Path, expect: Option<&Digest>) -> Result<Self, DiskIndexError> {
        let io = |source| DiskIndexError::Io { path: path.to_owned(), source };
        let damaged = |reason| DiskIndexError::Damaged { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut bytes = Vec::new();
        let fits = usize::try_from(len).is_ok_and(|len| bytes.try_reserve_exact(len).is_ok());
        if len > most_len() || !fits {
            return Err(damaged("it is larger than any can be"));
        }
        // A file that grows meanwhile is not followed.
        file.take(len).read_to_end(&mut bytes).map_err(io)?;
        let index = decode(&bytes).map_err(|fault| match fault {
            Fault::NotADiskIndex => DiskIndexError::NotADiskIndex { path: path.to_owned() },
            Fault::Newer(version) => DiskIndexError::Newer { path: path.to_owned(), version },
            Fault::Damaged(reason) => damaged(reason),
        })?;
        let found = bytes.last_chunk().map_or(Digest([0; 32]), |checksum| Digest(*checksum));
        match expect.filter(|expected| **expected != found) {
            Some(expected) => Err(DiskIndexError::Other { path: path.to_owned(), expected: *expected, found }),
            None => Ok(index),
        }
    }
}

/// The largest file. A sparse one costs its maker nothing, but would cost us its claimed length in memory.
fn most_len() -> u64 {
    (HEADER_LEN + MAX_ENTRIES * ENTRY_LEN + CHECKSUM_LEN) as u64
}

/// For tests and fuzzers: repairs mark, version, number of entries and checksum of `index` in place, as far as they fit.
#[cfg(feature = "testing")]
pub fn reseal(index: &mut [u8]) -> Option<()> {
    let body_len = index.len().checked_sub(CHECKSUM_LEN)?;
    let (body, checksum) = index.split_at_mut_checked(body_len)?;
    let (header, tables) = Header::mut_from_prefix(body).ok()?;
    (header.magic, header.version, header.flags) = (MAGIC, VERSION.into(), 0.into());
    header.entries = ((tables.len() / ENTRY_LEN) as u64).into();
    checksum.copy_from_slice(blake3::hash(body).as_bytes());
    Some(())
}

enum Fault {
    NotADiskIndex,
    Newer(u32),
    Damaged(&'static str),
}

fn decode(bytes: &[u8]) -> Result<DiskIndex, Fault> {
    let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| Fault::NotADiskIndex)?;
    if header.magic != MAGIC || header.version.get() == 0 {
        return Err(Fault::NotADiskIndex);
    }
    if header.version.get() > VERSION || header.flags.get() != 0 {
        return Err(Fault::Newer(header.version.get()));
    }
    let cut = "it is truncated, was never finished, or something was appended to it";
    let (before, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(Fault::Damaged(cut))?;
    let entries = usize::try_from(header.entries.get()).map_err(|_| Fault::Damaged(cut))?;
    if entries.checked_mul(ENTRY_LEN).and_then(|len| len.checked_add(HEADER_LEN)) != Some(before.len()) {
        return Err(Fault::Damaged(cut));
    }
    if blake3::hash(before) != *checksum {
        return Err(Fault::Damaged("its bytes do not match their checksum"));
    }
    let blocks_on_disk = header.disk_len.get() / PAGE_SIZE as u64;
    if header.reserved != [0; 32] || header.disk_len.get() > MAX_DISK_LEN {
        return Err(Fault::Damaged("its header is out of bounds"));
    }
    let table = Fault::Damaged("its tables do not fit each other or the disk");
    let (hashes, rest) = <[HashRecord]>::ref_from_prefix_with_elems(rest, entries).map_err(|_| Fault::Damaged(cut))?;
    let (blocks, _) = <[U32]>::ref_from_prefix_with_elems(rest, entries).map_err(|_| Fault::Damaged(cut))?;
    let hashes: Vec<_> = hashes.iter().map(|r| PageHash { high: r.high.get(), low: r.low.get() }).collect();
    let blocks: Vec<_> = blocks.iter().map(|block| block.get()).collect();
    let ascending = hashes.is_sorted_by(|a, b| a < b);
    if !ascending || blocks.iter().any(|block| u64::from(*block) >= blocks_on_disk) {
        return Err(table);
    }
    Ok(DiskIndex::new(header.disk_len.get(), hashes, blocks))
}
