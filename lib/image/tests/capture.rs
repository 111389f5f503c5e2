//! What an account of RAM finds, what it reads for that, and where pages are put.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use dormouse_guest_mem::{PAGE_SIZE, PageClass, PageIndex, PageSet};
use dormouse_image::{Capture, Disk, DiskSlot, Image, PageCounts, PageKind, Parent, StoreOptions, account};
use support::lab::*;
use support::*;

const PAGES: u32 = 3 * 512;

fn set(pages: impl IntoIterator<Item = u32>) -> PageSet {
    let mut set = PageSet::new(PAGES);
    pages.into_iter().for_each(|page| set.insert(PageIndex(page)));
    set
}

/// Three chunks: text, noise, and half zero.
fn plain() -> Vec<u8> {
    (0..u64::from(PAGES))
        .flat_map(|page| match page {
            0..512 => text(page),
            512..1024 => noise(page),
            _ if page % 2 == 0 => text(page),
            _ => [0; PAGE_SIZE],
        })
        .collect()
}

fn kinds(image: &Image) -> Vec<PageKind> {
    image.runs().flat_map(|run| run.pages.map(move |_| run.kind)).collect()
}

#[test]
fn what_the_vm_did_not_write_is_not_read_and_lies_where_the_parent_has_it() {
    let (lab, layout, started) = (Lab::new(), layout(PAGES, PAGES), plain());
    let first = lab.first(&started, &layout, None, "first");
    let image = first.open();
    let mut ram = started.clone();
    page_mut(&mut ram, 600).copy_from_slice(&text(99_999));
    let (written, source) = (set([600, 601]), CountedRam::new(&ram));
    let parent = Parent { image: &image, written: &written, ram: &started };
    let capture = capture(&source, &layout, None, &[], Some(parent));
    let accounting = account(&capture, 1, &()).unwrap();
    let expected = PageCounts { zero: 256, parent: PAGES - 256 - 1, data: 1, ..PageCounts::default() };
    assert_eq!(accounting.counts(), expected);
    assert_eq!(source.pages_read(), (512..1024).collect::<Vec<_>>(), "only the chunk that changed is read");
    assert_eq!(accounting.data_pages().iter().collect::<Vec<_>>(), [PageIndex(600)]);

    let source = CountedRam::new(&ram);
    let (pack, index) = (lab.create("half.pack"), lab.create("half.idx"));
    let stored = accounting.store(&source, &pack, &index, StoreOptions::default(), &()).unwrap();
    assert_eq!(source.pages_read(), [600], "only what is stored is read again");
    let second = lab.publish(stored, "second");
    assert_eq!(second.stored.packs.len(), 2);
    assert!(lab.materialised(&second.open(), &[], 2) == ram);
}

#[test]
fn pages_that_were_written_as_they_were_are_the_parents() {
    let (lab, layout, ram) = (Lab::new(), layout(PAGES, PAGES), plain());
    let first = lab.first(&ram, &layout, None, "first");
    let image = first.open();
    let (written, source) = (set(0..PAGES), CountedRam::new(&ram));
    let parent = Parent { image: &image, written: &written, ram: &ram };
    let second =
        lab.pause(&capture(&source, &layout, None, &[], Some(parent)), StoreOptions::default(), "second").unwrap();
    assert!(second.stored.pack.is_none());
    assert_eq!(second.stored.ram_digest, first.stored.ram_digest);
    assert_eq!(second.stored.root, first.stored.root, "nothing changed, so it is the same image");
}

#[test]
fn unchanged_zero_and_data_are_three_things() {
    let (lab, layout, started) = (Lab::new(), layout(PAGES, PAGES), plain());
    let image = lab.first(&started, &layout, None, "first").open();
    let mut ram = started.clone();
    // Data becomes zero, zero becomes data, data becomes free, and the page beside each stays.
    page_mut(&mut ram, 10).fill(0);
    page_mut(&mut ram, 1025).copy_from_slice(&text(7));
    let (written, free) = (set([10, 1025]), set([20, 1026, 1027]));
    let parent = Parent { image: &image, written: &written, ram: &started };
    let second =
        lab.pause(&capture(&ram, &layout, Some(&free), &[], Some(parent)), StoreOptions::default(), "second").unwrap();
    let image = second.open();
    let kinds = kinds(&image);
    let at = |page: usize| (kinds[page - 1], kinds[page], kinds[page + 1]);
    assert_eq!(at(10), (PageKind::Data, PageKind::Zero, PageKind::Data));
    assert_eq!(at(1025), (PageKind::Data, PageKind::Data, PageKind::Free));
    assert_eq!(at(20), (PageKind::Data, PageKind::Free, PageKind::Data));
    assert_eq!(kinds[1027], PageKind::Free);
    let mut restored = ram.clone();
    free.iter().for_each(|page| page_mut(&mut restored, page.0).fill(0));
    assert!(lab.materialised(&image, &[], 1) == restored);

    // What was free and is used again without having been written holds the zeros that the resume put there.
    let written = set([]);
    let parent = Parent { image: &image, written: &written, ram: &restored };
    let third =
        lab.pause(&capture(&restored, &layout, None, &[], Some(parent)), StoreOptions::default(), "third").unwrap();
    assert_eq!(third.open().summary().pages.free, 0);
    assert!(lab.materialised(&third.open(), &[], 1) == restored);
    third.open().verify(&lab.packs, &[], 1, &()).unwrap();
}

#[test]
fn bytes_where_the_parents_image_has_none_are_stored_whatever_its_ram_file_says() {
    let (lab, layout, mut ram) = (Lab::new(), layout(PAGES, PAGES), plain());
    let image = lab.first(&ram, &layout, None, "first").open();
    page_mut(&mut ram, 1025).copy_from_slice(&text(7));
    // The file is said to have been like that before.
    let (written, file) = (set([1025]), ram.clone());
    let parent = Parent { image: &image, written: &written, ram: &file };
    let second =
        lab.pause(&capture(&ram, &layout, None, &[], Some(parent)), StoreOptions::default(), "second").unwrap();
    assert!(lab.materialised(&second.open(), &[], 1) == ram);
}

#[test]
fn pages_that_equal_disk_blocks_are_references_and_only_those_to_the_base_disk_are_inherited() {
    let (lab, layout) = (Lab::new(), layout(PAGES, PAGES));
    let content = |salt: u64| (0..300).flat_map(|block| noise(salt + block)).collect::<Vec<u8>>();
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &content(10_000));
    let overlay = TestDisk::new(DiskSlot::Overlay, lab.path().join("overlay"), &content(20_000));
    let mut ram = plain();
    for block in 0..200 {
        page_mut(&mut ram, 100 + block).copy_from_slice(&base.block(block.into()));
        page_mut(&mut ram, 1024 + block).copy_from_slice(&overlay.block(u64::from(block) + 50));
    }
    let disks = [base.content(), overlay.content()];
    let first = lab.pause(&capture(&ram, &layout, None, &disks, None), StoreOptions::default(), "first").unwrap();
    let image = first.open();
    assert_eq!((image.summary().pages.base_disk, image.summary().pages.overlay_disk), (200, 200));
    assert!(lab.materialised(&image, &[base.disk(), overlay.disk()], 2) == ram);

    // The next overlay holds half of those blocks, elsewhere.
    let other: Vec<u8> = (0..100).flat_map(|block| overlay.block(50 + block)).collect();
    let next = TestDisk::new(DiskSlot::Overlay, lab.path().join("next"), &other);
    let written = set([]);
    let parent = Parent { image: &image, written: &written, ram: &ram };
    let source = CountedRam::new(&ram);
    let disks = [base.content(), next.content()];
    let second =
        lab.pause(&capture(&source, &layout, None, &disks, Some(parent)), StoreOptions::default(), "second").unwrap();
    assert_eq!(source.pages_read(), (1024..1224).collect::<Vec<_>>(), "what was on the old overlay is looked at anew");
    let image = second.open();
    assert_eq!((image.summary().pages.base_disk, image.summary().pages.overlay_disk), (200, 100));
    let out = tempfile::tempfile().unwrap();
    assert!(image.materialise(&lab.packs, &[base.disk(), overlay.disk()], &out, 1, &()).is_err());
    assert!(lab.materialised(&image, &[base.disk(), next.disk()], 2) == ram);
    assert_eq!(second.stored.ram_digest, first.stored.ram_digest);

    // Without the base disk nothing can refer to it.
    let parent = Parent { image: &image, written: &written, ram: &ram };
    let third = lab.pause(&capture(&ram, &layout, None, &[], Some(parent)), StoreOptions::default(), "third").unwrap();
    assert_eq!(third.open().summary().pages.base_disk, 0);
    assert!(lab.materialised(&third.open(), &[], 1) == ram);
}

#[test]
fn a_disk_index_that_is_out_of_date_costs_room_and_nothing_else() {
    let (lab, layout) = (Lab::new(), layout(64, 64));
    let old: Vec<u8> = (0..64).flat_map(noise).collect();
    let disk = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &old);
    let mut now = old.clone();
    page_mut(&mut now, 30).copy_from_slice(&text(1));
    std::fs::write(&disk.path, &now[..60 * PAGE_SIZE]).unwrap();
    let disks = [disk.content()];
    let first = lab.pause(&capture(&old, &layout, None, &disks, None), StoreOptions::default(), "first").unwrap();
    let image = first.open();
    assert_eq!(kinds(&image)[30], PageKind::Data);
    assert_eq!(image.summary().pages.base_disk, 59, "all blocks but the changed one and the four that are gone");
    assert!(lab.materialised(&image, &[disk.disk()], 1) == old);
}

#[test]
fn a_block_that_is_gone_from_the_disk_is_not_referred_to_whatever_was_read_before() {
    let (lab, layout) = (Lab::new(), layout(64, 64));
    let disk: Vec<u8> = (0..64).flat_map(noise).collect();
    let disk = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &disk);
    let mut started: Vec<u8> = (0..64).flat_map(text).collect();
    page_mut(&mut started, 0).copy_from_slice(&noise(40));
    let image = lab.first(&started, &layout, None, "first").open();
    // What another page held before is what the index finds on a part of the disk that is cut off.
    let mut ram = started.clone();
    page_mut(&mut ram, 0).copy_from_slice(&text(1000));
    page_mut(&mut ram, 3).copy_from_slice(&noise(40));
    disk.file.set_len(30 * PAGE).unwrap();
    let mut written = PageSet::new(64);
    written.insert_range(0..4);
    let (parent, disks) = (Parent { image: &image, written: &written, ram: &started }, [disk.content()]);
    let second =
        lab.pause(&capture(&ram, &layout, None, &disks, Some(parent)), StoreOptions::default(), "second").unwrap();
    assert!(lab.materialised(&second.open(), &[disk.disk()], 1) == ram);
}

#[test]
fn equal_pages_are_stored_once() {
    let (lab, layout) = (Lab::new(), layout(PAGES, PAGES));
    let ram: Vec<u8> = (0..PAGES).flat_map(|page| noise(u64::from(page % 100))).collect();
    let snapshot = lab.first(&ram, &layout, None, "first");
    assert!(snapshot.stored.pack.as_ref().unwrap().named().len.0 < 105 * PAGE);
    assert!(lab.materialised(&snapshot.open(), &[], 2) == ram);
}

#[test]
fn an_image_of_version_1_is_no_parent_but_the_pause_succeeds() {
    let (lab, mixed) = (Lab::new(), Mixed::new());
    let old = Image::open(&fixture("memory.img"), None).unwrap();
    assert_eq!((old.version(), old.ram_digest(), old.packs().len()), (1, None, 0));
    let (ram, written) = (mixed.restored(), PageSet::new(64));
    let parent = Parent { image: &old, written: &written, ram: &ram };
    let capture = capture(&ram, &mixed.layout, None, &[], Some(parent));
    assert_eq!(account(&capture, 1, &()).unwrap().counts().parent, 0);
    let snapshot = lab.pause(&capture, StoreOptions::default(), "first").unwrap();
    assert!(lab.materialised(&snapshot.open(), &[], 1) == ram);
}

#[test]
fn images_of_version_1_are_opened_materialised_and_verified_like_any_other() {
    let (lab, mixed) = (Lab::new(), Mixed::new());
    let image = Image::open(&fixture("memory.img"), None).unwrap();
    image.verify(&lab.packs, &[], 1, &()).unwrap();
    assert!(lab.materialised(&image, &[], 1) == mixed.restored());
    let mut content = [0; PAGE_SIZE];
    image.pages(&lab.packs, &[]).read(PageIndex(40), &mut content).unwrap();
    assert!(content == noise(40));
}

#[test]
fn pages_lie_in_the_pack_by_class_and_then_by_address() {
    let (lab, layout) = (Lab::new(), layout(96, 96));
    let ram: Vec<u8> = (0..96).flat_map(noise).collect();
    let classes = [PageClass::PageCache, PageClass::Kernel, PageClass::Anonymous];
    let class_of = |page: PageIndex| classes[(page.0 / 2 % 3) as usize];
    let capture = Capture { ram: &ram, layout: &layout, free: None, class_of: &class_of, disks: &[], parent: None };
    // A frame for each page that is not compressed: so the frames are the pages in their order.
    let options = StoreOptions { frame_pages: 1, ..StoreOptions::default() };
    let snapshot = lab.pause(&capture, options, "first").unwrap();
    let pack = std::fs::read(lab.packs.path(&snapshot.stored.pack.as_ref().unwrap().named().id)).unwrap();
    let order: Vec<u32> = [PageClass::Kernel, PageClass::Anonymous, PageClass::PageCache]
        .into_iter()
        .flat_map(|class| (0..96).filter(move |page| class_of(PageIndex(*page)) == class))
        .collect();
    for (place, number) in order.into_iter().enumerate() {
        assert!(pack[64 + place * PAGE_SIZE..][..PAGE_SIZE] == *page(&ram, number), "place {place}");
    }
}

#[test]
fn the_same_ram_gives_the_same_bytes_for_any_number_of_threads() {
    let (lab, layout) = (Lab::new(), layout(PAGES, 700));
    let mut ram = plain();
    ram.copy_within(0..300 * PAGE_SIZE, 1100 * PAGE_SIZE);
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &ram[500 * PAGE_SIZE..800 * PAGE_SIZE]);
    let files = [1, 2, 5].map(|threads| {
        let disks = [base.content()];
        let options = StoreOptions { threads, ..StoreOptions::default() };
        let name = format!("{threads}");
        let snapshot = lab.pause(&capture(&ram, &layout, None, &disks, None), options, &name).unwrap();
        let pack = std::fs::read(lab.packs.path(&snapshot.stored.pack.as_ref().unwrap().named().id)).unwrap();
        (std::fs::read(snapshot.index).unwrap(), pack)
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
}

#[test]
fn the_index_takes_at_most_one_percent_of_the_data() {
    let (lab, layout) = (Lab::new(), layout(8192, 8192));
    // Runs of 1 to 8 pages of data, zeros and blocks of a disk, as fragmented as memory gets.
    let disk: Vec<u8> = (0..2000).flat_map(|block| noise(1 << 40 | block)).collect();
    let base = TestDisk::new(DiskSlot::Base, lab.path().join("base"), &disk);
    let (mut ram, mut number) = (Vec::new(), 0u64);
    while ram.len() < 8192 * PAGE_SIZE {
        for into in 0..1 + number * 7 % 8 {
            match number % 4 {
                0 => ram.extend([0; PAGE_SIZE]),
                1 => ram.extend(base.block((number * 8 + into) % 2000)),
                _ => ram.extend(noise(number * 8 + into)),
            }
        }
        number += 1;
    }
    ram.truncate(8192 * PAGE_SIZE);
    let disks = [base.content()];
    let snapshot = lab.pause(&capture(&ram, &layout, None, &disks, None), StoreOptions::default(), "first").unwrap();
    let summary = &snapshot.stored.summary;
    assert!(summary.pages.base_disk > 1500 && summary.pages.data > 3000, "{:?}", summary.pages);
    println!("index {} for {} of data, {:?}", snapshot.stored.index_len, summary.data(), summary.pages);
    assert!(snapshot.stored.index_len.0 * 100 <= summary.data().0, "{}", snapshot.stored.index_len);
    let disks: [Disk<'_>; 1] = [base.disk()];
    assert!(lab.materialised(&snapshot.open(), &disks, 2) == ram);
}
