//! RAM to make images from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod lab;
pub(crate) mod parts;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageClass, PageIndex, PageSet, RamLayout, RamRegion, RamSource};
use dormouse_image::{ImageReader, Progress};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub(crate) const PAGE: u64 = PAGE_SIZE as u64;

/// A page that zstd can not make smaller, the same for the same number.
pub(crate) fn noise(seed: u64) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in page.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
    }
    page
}

/// A page that compresses well, the same for the same number.
pub(crate) fn text(seed: u64) -> [u8; PAGE_SIZE] {
    let line = format!("page {seed}: the dormouse sleeps small. ");
    std::array::from_fn(|i| line.as_bytes()[i % line.len()])
}

/// RAM of `pages` pages, the part from `split` on above a hole at 4 GiB.
pub(crate) fn layout(pages: u32, split: u32) -> RamLayout {
    let region = |guest, pages: Range<u32>| RamRegion {
        guest: GuestAddr(guest),
        offset: u64::from(pages.start) * PAGE,
        len: pages.len() as u64 * PAGE,
    };
    let parts = [region(0, 0..split), region(1 << 32, split..pages)];
    RamLayout::new(parts.into_iter().filter(|r| r.len > 0).collect()).unwrap()
}

/// RAM that notices what is read.
pub(crate) struct WatchedRam {
    pub(crate) bytes: Vec<u8>,
    pub(crate) populated: Vec<Range<u64>>,
    /// Reading any of these is an error.
    pub(crate) forbidden: PageSet,
}

impl RamSource for WatchedRam {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        if (offset / PAGE..end.div_ceil(PAGE)).any(|page| self.forbidden.contains(PageIndex(page as u32))) {
            return Err(io::Error::other("a page was read that must not be"));
        }
        self.bytes.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(self.populated.clone())
    }
}

/// Gives up when it has been asked so often.
pub(crate) struct CancelAfter(AtomicU64);

impl CancelAfter {
    pub(crate) fn looks(count: u64) -> Self {
        Self(count.into())
    }
}

impl Progress for CancelAfter {
    fn advance(&self, _done: Bytes, _total: Bytes) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// A class for each page that makes runs of different lengths.
pub(crate) fn class_of(page: PageIndex) -> PageClass {
    PageClass::from_code((page.0 / 3 % 9) as u8).unwrap()
}

/// The mixed RAM of the committed fixture: 64 pages in two regions, with every kind of page and of frame.
pub(crate) struct Mixed {
    pub(crate) ram: Vec<u8>,
    pub(crate) layout: RamLayout,
    pub(crate) free: PageSet,
}

impl Mixed {
    pub(crate) fn new() -> Self {
        let mut ram = Vec::new();
        let mut free = PageSet::new(64);
        for page in 0..64u32 {
            match page {
                32..48 => ram.extend(noise(u64::from(page))),
                _ if page % 4 == 0 => ram.extend([0; PAGE_SIZE]),
                _ if page % 8 == 1 => {
                    free.insert(PageIndex(page));
                    ram.extend([0xee; PAGE_SIZE]);
                }
                _ => ram.extend(text(u64::from(page))),
            }
        }
        Self { ram, layout: layout(64, 48), free }
    }

    /// What RAM must be after a resume.
    pub(crate) fn restored(&self) -> Vec<u8> {
        let mut ram = self.ram.clone();
        for page in self.free.iter() {
            ram[page.offset() as usize..][..PAGE_SIZE].fill(0);
        }
        ram
    }
}

pub(crate) fn read_all(image: &ImageReader) -> Vec<u8> {
    let mut ram = Vec::new();
    for page in 0..image.layout().pages() {
        let mut content = [0xaa; PAGE_SIZE];
        image.read_page(PageIndex(page), &mut content).unwrap();
        ram.extend(content);
    }
    ram
}

pub(crate) fn materialised(image: &ImageReader, threads: usize) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new().unwrap();
    image.materialise(out.as_file(), threads, &()).unwrap();
    std::fs::read(out.path()).unwrap()
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

/// The committed image of version 1, as a file that may be changed.
pub(crate) fn copied_fixture() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    std::fs::copy(fixture("memory.img"), &path).unwrap();
    (dir, path)
}

/// A small file system of its own, unmounted at the end.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("none", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("this test mounts a small tmpfs: run it as root");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}
