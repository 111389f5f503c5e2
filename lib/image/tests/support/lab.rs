//! Taking and reading images of version 2 in a folder.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet, RamLayout, RamSource};
use dormouse_image::{
    Capture, DirPacks, Disk, DiskContent, DiskIndex, DiskSlot, Image, Parent, StoreOptions, Stored, WriteError, account,
};

use super::{PAGE, class_of};

/// A disk with its index.
pub(crate) struct TestDisk {
    pub(crate) slot: DiskSlot,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) index: DiskIndex,
}

impl TestDisk {
    pub(crate) fn new(slot: DiskSlot, path: PathBuf, content: &[u8]) -> Self {
        std::fs::write(&path, content).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let index = DiskIndex::build(&file, 2, &()).unwrap();
        Self { slot, path, file, index }
    }

    pub(crate) fn content(&self) -> DiskContent<'_> {
        DiskContent { slot: self.slot, file: &self.file, index: &self.index }
    }

    pub(crate) fn disk(&self) -> Disk<'_> {
        Disk { slot: self.slot, file: &self.file, path: &self.path }
    }

    pub(crate) fn block(&self, block: u64) -> [u8; PAGE_SIZE] {
        let mut out = [0; PAGE_SIZE];
        self.file.read_exact_at(&mut out, block * PAGE).unwrap();
        out
    }
}

/// Packs and indexes in a folder.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) packs: DirPacks,
}

/// An image that was stored.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) index: PathBuf,
    pub(crate) stored: Stored,
}

impl Snapshot {
    pub(crate) fn open(&self) -> Image {
        Image::open(&self.index, Some(&self.stored.root)).unwrap()
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packs = DirPacks::new(dir.path().to_owned());
        Self { dir, packs }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn create(&self, name: &str) -> File {
        File::options().read(true).write(true).create(true).truncate(true).open(self.path().join(name)).unwrap()
    }

    /// Gives the finished pack its name and the index the given one.
    pub(crate) fn publish(&self, stored: Stored, name: &str) -> Snapshot {
        let half = self.path().join("half.pack");
        match &stored.pack {
            Some(pack) => std::fs::rename(half, self.packs.path(&pack.named().id)).unwrap(),
            None => {
                assert_eq!(half.metadata().unwrap().len(), 0, "nothing is written when there is nothing for a pack")
            }
        }
        let index = self.path().join(name);
        std::fs::rename(self.path().join("half.idx"), &index).unwrap();
        assert_eq!(index.metadata().unwrap().len(), stored.index_len.0);
        Snapshot { index, stored }
    }

    pub(crate) fn pause(
        &self,
        capture: &Capture<'_>,
        options: StoreOptions,
        name: &str,
    ) -> Result<Snapshot, WriteError> {
        let accounting = account(capture, options.threads, &())?;
        let (pack, index) = (self.create("half.pack"), self.create("half.idx"));
        let stored = accounting.store(capture.ram, &pack, &index, options, &())?;
        assert_eq!(stored.ram_digest, accounting.ram_digest());
        Ok(self.publish(stored, name))
    }

    /// A first image of this RAM, without disks.
    pub(crate) fn first(
        &self,
        ram: &dyn RamSource,
        layout: &RamLayout,
        free: Option<&PageSet>,
        name: &str,
    ) -> Snapshot {
        self.pause(&capture(ram, layout, free, &[], None), StoreOptions::default(), name).unwrap()
    }

    pub(crate) fn materialised(&self, image: &Image, disks: &[Disk<'_>], threads: usize) -> Vec<u8> {
        let out = tempfile::NamedTempFile::new().unwrap();
        image.materialise(&self.packs, disks, out.as_file(), threads, &()).unwrap();
        std::fs::read(out.path()).unwrap()
    }
}

pub(crate) fn capture<'a>(
    ram: &'a dyn RamSource,
    layout: &'a RamLayout,
    free: Option<&'a PageSet>,
    disks: &'a [DiskContent<'a>],
    parent: Option<Parent<'a>>,
) -> Capture<'a> {
    Capture { ram, layout, free, class_of: &class_of, disks, parent }
}

/// The identity of RAM, as the format describes it.
pub(crate) fn digest_of(ram: &[u8]) -> String {
    let digest = |chunk: &[u8]| {
        let (mut bytes, mut map) = (Vec::new(), [0u8; 64]);
        for (at, page) in chunk.chunks(PAGE_SIZE).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            bytes.extend_from_slice(page);
            map[at / 8] |= 1 << (at % 8);
        }
        bytes.extend_from_slice(&map);
        *blake3::hash(&bytes).as_bytes()
    };
    let chunks: Vec<_> = ram.chunks(2 << 20).flat_map(digest).collect();
    let all = [b"dormram\0".as_slice(), &(ram.len() as u64).to_le_bytes(), &chunks].concat();
    blake3::hash(&all).to_hex().to_string()
}

/// RAM that was not populated but at these places, and counts what is read of it.
pub(crate) struct CountedRam<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) populated: Vec<Range<u64>>,
    pub(crate) read: std::sync::Mutex<PageSet>,
}

impl<'a> CountedRam<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let pages = (bytes.len() / PAGE_SIZE) as u32;
        Self { bytes, populated: std::iter::once(0..bytes.len() as u64).collect(), read: PageSet::new(pages).into() }
    }

    pub(crate) fn pages_read(&self) -> Vec<u32> {
        self.read.lock().unwrap().iter().map(|page| page.0).collect()
    }
}

impl RamSource for CountedRam<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let pages = (offset / PAGE) as u32..(offset + buf.len() as u64).div_ceil(PAGE) as u32;
        self.read.lock().unwrap().insert_range(pages);
        self.bytes.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(self.populated.clone())
    }
}

pub(crate) fn page(ram: &[u8], page: u32) -> &[u8] {
    &ram[PageIndex(page).offset() as usize..][..PAGE_SIZE]
}

pub(crate) fn page_mut(ram: &mut [u8], page: u32) -> &mut [u8] {
    &mut ram[PageIndex(page).offset() as usize..][..PAGE_SIZE]
}
