//! What pages are made of: frames of packs and runs of disk blocks, checked when they are read.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::{io, mem};

use dormouse_guest_mem::{Bytes, PAGE_SIZE};

use super::IndexImage;
use super::map::PackEntry;
use crate::disk::{Disk, DiskSlot};
use crate::error::{PackDamage, ReadError};
use crate::pack::{FrameReader, OpenPack, PackSource};

/// The packs and disks of an image, shared by all threads that read it. Packs are opened when they are needed.
pub(crate) struct Sources<'a> {
    pub(crate) image: &'a IndexImage,
    packs: &'a dyn PackSource,
    disks: &'a [Disk<'a>],
    open: Vec<OnceLock<OpenPack>>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(image: &'a IndexImage, packs: &'a dyn PackSource, disks: &'a [Disk<'a>]) -> Self {
        let open = image.map.packs.iter().map(|_| OnceLock::new()).collect();
        Self { image, packs, disks, open }
    }

    /// The pack with this number of the image's table.
    pub(crate) fn pack(&self, number: u16) -> Result<&OpenPack, ReadError> {
        let (Some(place), Some(entry)) =
            (self.open.get(usize::from(number)), self.image.map.packs.get(usize::from(number)))
        else {
            return Err(ReadError::NotAnImage { path: self.image.path.clone() });
        };
        if let Some(pack) = place.get() {
            return Ok(pack);
        }
        let opened = open(self.packs, entry)?;
        // Another thread may have been quicker: then this one is closed again.
        Ok(place.get_or_init(|| opened))
    }

    /// Packs that were opened.
    pub(crate) fn opened(&self) -> impl Iterator<Item = &OpenPack> {
        self.open.iter().filter_map(OnceLock::get)
    }

    /// Reads a whole run of disk blocks into `buf`, and checks it.
    pub(crate) fn disk_run(&self, slot: DiskSlot, block: u32, hash: u32, buf: &mut [u8]) -> Result<(), ReadError> {
        let disk = self.disks.iter().find(|disk| disk.slot == slot);
        let disk = disk.ok_or_else(|| ReadError::DiskMissing { path: self.image.path.clone(), disk: slot })?;
        let offset = u64::from(block) * PAGE_SIZE as u64;
        let len = Bytes(buf.len() as u64);
        let changed = || ReadError::DiskChanged { disk: slot, path: disk.path.to_owned(), offset, len };
        match disk.file.read_exact_at(buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            other => {
                other.map_err(|source| ReadError::DiskIo { disk: slot, path: disk.path.to_owned(), source })?;
            }
        }
        let expected = self.image.map.disk_hashes.get(hash as usize);
        if expected.is_some_and(|expected| blake3::hash(buf) == *expected) { Ok(()) } else { Err(changed()) }
    }
}

fn open(packs: &dyn PackSource, entry: &PackEntry) -> Result<OpenPack, ReadError> {
    let pack = OpenPack::open(packs.open(&entry.named.id)?, &entry.named)?;
    if pack.pages() == entry.pages {
        Ok(pack)
    } else {
        Err(ReadError::PackDamaged { pack: pack.id(), damage: PackDamage::FrameTable })
    }
}

/// A frame of a pack: number of the pack, number of the frame.
pub(crate) type FrameKey = (u16, u32);

/// Decoded frames that were read lately; one for each thread.
pub(crate) struct FrameCache {
    reader: FrameReader,
    frames: HashMap<FrameKey, Held>,
    capacity: usize,
    clock: u64,
}

#[derive(Default)]
struct Held {
    used: u64,
    raw: Vec<u8>,
}

impl FrameCache {
    /// Holds up to so many frames.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { reader: FrameReader::new()?, frames: HashMap::new(), capacity: capacity.max(1), clock: 0 })
    }

    /// The pages of a frame.
    pub(crate) fn get(&mut self, pack: &OpenPack, key: FrameKey) -> Result<&[u8], ReadError> {
        self.clock += 1;
        if !self.frames.contains_key(&key) {
            let mut raw = self.make_room();
            self.reader.read(pack, key.1..key.1.saturating_add(1), &mut raw)?;
            self.frames.insert(key, Held { used: 0, raw });
        }
        let held = self.frames.entry(key).or_default();
        held.used = self.clock;
        Ok(&held.raw)
    }

    /// Drops the oldest frame if there are too many, and gives its memory.
    fn make_room(&mut self) -> Vec<u8> {
        if self.frames.len() < self.capacity {
            return Vec::new();
        }
        let oldest = self.frames.iter().min_by_key(|(_, held)| held.used).map(|(key, _)| *key);
        oldest.and_then(|key| self.frames.remove(&key)).map(|mut held| mem::take(&mut held.raw)).unwrap_or_default()
    }
}
