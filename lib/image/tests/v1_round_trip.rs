//! Whatever RAM goes in comes out, except that free pages come out as zero.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::os::unix::fs::MetadataExt;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageIndex, PageSet};
use dormouse_image::{ImageReader, PageKind, WriteOptions};
use proptest::prelude::*;
use support::*;

#[derive(Clone, Copy, Debug)]
enum Content {
    Zero,
    Hole,
    Text,
    Noise,
    /// Free with garbage in it that must neither be read nor kept.
    Free,
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Zero),
        Just(Content::Hole),
        Just(Content::Text),
        Just(Content::Noise),
        Just(Content::Free),
    ]
}

struct Case {
    source: WatchedRam,
    free: PageSet,
    restored: Vec<u8>,
}

fn case(runs: &[(Content, u32)]) -> Case {
    let kinds: Vec<Content> =
        runs.iter().flat_map(|(kind, pages)| std::iter::repeat_n(*kind, *pages as usize)).collect();
    let pages = kinds.len() as u32;
    let (mut free, mut forbidden) = (PageSet::new(pages), PageSet::new(pages));
    let (mut bytes, mut restored, mut populated) = (Vec::new(), Vec::new(), Vec::new());
    for (page, kind) in (0..pages).zip(kinds) {
        let (now, then) = match kind {
            Content::Zero | Content::Hole => ([0; PAGE_SIZE], [0; PAGE_SIZE]),
            Content::Text => (text(u64::from(page)), text(u64::from(page))),
            Content::Noise => (noise(u64::from(page)), noise(u64::from(page))),
            Content::Free => (noise(!u64::from(page)), [0; PAGE_SIZE]),
        };
        bytes.extend(now);
        restored.extend(then);
        if matches!(kind, Content::Free) {
            free.insert(PageIndex(page));
        }
        if matches!(kind, Content::Free | Content::Hole) {
            forbidden.insert(PageIndex(page));
        }
        if !matches!(kind, Content::Hole) {
            populated.push(u64::from(page) * PAGE..u64::from(page + 1) * PAGE);
        }
    }
    Case { source: WatchedRam { bytes, populated, forbidden }, free, restored }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn restored_ram_is_paused_ram_outside_the_free_pages(
        runs in prop::collection::vec((content(), 1u32..40), 1..12),
        split in 0u32..200,
        frame_pages in 1u32..20,
        threads in 1usize..4,
    ) {
        let Case { source, free, restored } = case(&runs);
        let pages = free.capacity();
        let layout = layout(pages, split.min(pages));
        let dir = tempfile::tempdir().unwrap();
        let options = WriteOptions { level: 1, threads, frame_pages };
        let path = dir.path().join("memory.img");
        let summary = write_to(&path, &source, &layout, Some(&free), options).unwrap();

        let image = ImageReader::open(&path, Some(&summary.root)).unwrap();
        image.verify(&()).unwrap();
        prop_assert_eq!(image.layout(), &layout);
        prop_assert_eq!(image.summary(), &summary);
        prop_assert_eq!(summary.file_len.0, path.metadata().unwrap().len());
        prop_assert!(read_all(&image) == restored);
        prop_assert!(materialised(&image, threads) == restored);

        let mut next = 0;
        for run in image.runs() {
            prop_assert_eq!(run.pages.start, next);
            next = run.pages.end;
            for page in run.pages.clone() {
                prop_assert_eq!(run.class, class_of(PageIndex(page)));
                prop_assert_eq!(run.kind == PageKind::Free, free.contains(PageIndex(page)));
                let zero = restored[page as usize * PAGE_SIZE..][..PAGE_SIZE].iter().all(|b| *b == 0);
                prop_assert_eq!(run.kind == PageKind::Data, !zero);
            }
        }
        prop_assert_eq!(next, pages);
        prop_assert_eq!(summary.pages.pages_total(), pages);
        let by_class: u32 = summary.by_class.values().map(|c| c.pages_total()).sum();
        prop_assert_eq!(by_class, pages);
    }
}

#[test]
fn the_same_ram_gives_the_same_bytes_for_any_number_of_threads() {
    let mixed = Mixed::new();
    let dir = tempfile::tempdir().unwrap();
    let images = [1, 2, 5].map(|threads| {
        let path = dir.path().join(threads.to_string());
        write_to(&path, &mixed.ram, &mixed.layout, Some(&mixed.free), WriteOptions { threads, ..mixed.options })
            .unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(images[0] == images[1] && images[1] == images[2]);
}

#[test]
fn without_a_free_set_every_page_that_is_not_zero_is_kept() {
    let mixed = Mixed::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    let summary = write_to(&path, &mixed.ram, &mixed.layout, None, mixed.options).unwrap();
    assert_eq!(summary.pages.free, 0);
    assert!(read_all(&ImageReader::open(&path, None).unwrap()) == mixed.ram);
}

#[test]
fn a_materialised_file_takes_room_for_its_data_pages_only() {
    let mut ram = vec![0; 16 << 20];
    ram[8 << 20..][..PAGE_SIZE].copy_from_slice(&text(1));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.img");
    write_to(&path, &ram, &layout(4096, 4096), None, WriteOptions::default()).unwrap();
    let out = std::fs::File::create(dir.path().join("ram")).unwrap();
    ImageReader::open(&path, None).unwrap().materialise(&out, 2, &()).unwrap();
    let meta = out.metadata().unwrap();
    assert_eq!(meta.len(), 16 << 20);
    assert!(Bytes(meta.blocks() * 512) <= Bytes(64 << 10), "{}", Bytes(meta.blocks() * 512));
}
