//! Indexes of memory images that lie. The input is the body, sealed with a root that is right; the packs that it names can
//! not be had, and its disks are one file of a few blocks.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use dormouse_guest_mem::{PAGE_SIZE, PageIndex};
use dormouse_image::{DirPacks, Disk, DiskSlot, Image, PageKind, testing};
use libfuzzer_sys::fuzz_target;

/// Reads page by page up to here.
const PAGES_READ: usize = 256;

fuzz_target!(|data: &[u8]| {
    let Some((pages, body)) = data.split_first_chunk::<2>() else { return };
    let ram_len = u64::from(u16::from_le_bytes(*pages)) * PAGE_SIZE as u64;
    let Ok((index, root)) = testing::seal_index(ram_len, body) else { return };
    let Ok(image) = Image::from_file(file(&index), Path::new("fuzz"), Some(&root)) else { return };
    let covered: u64 = image.runs().map(|run| u64::from(run.pages.end - run.pages.start)).sum();
    assert_eq!(covered, u64::from(image.layout().pages()));
    assert_eq!(u64::from(image.summary().pages.pages_total()), covered);

    let (packs, blocks) = (DirPacks::new("/nowhere".into()), file(&[7; 8 * PAGE_SIZE]));
    let disks = DiskSlot::ALL.map(|slot| Disk { slot, file: &blocks, path: Path::new("disk") });
    let mut reader = image.pages(&packs, &disks);
    let mut content = [0u8; PAGE_SIZE];
    for run in image.runs().take(PAGES_READ) {
        let read = reader.read(PageIndex(run.pages.start), &mut content).is_ok();
        assert!(!read || run.kind != PageKind::Data, "a page of a pack that is not there was read");
    }
    let verified = image.verify(&packs, &disks, 1, &()).is_ok();
    let out = tempfile::tempfile_in("/dev/shm").unwrap();
    let made = image.materialise(&packs, &disks, &out, 1, &()).is_ok();
    let len = out.metadata().unwrap().len();
    assert!(made || len == 0, "half-filled RAM is left behind");
    assert!(made || !verified, "a verified image can not be materialised");
});

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(bytes).unwrap();
    file
}
