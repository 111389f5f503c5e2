//! Damaged parts of an image of version 2 are refused by name: never a silent difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dormouse_image::{Digest, DiskIndex, Image, ImageRoot, PackSource, ReadError, check_pack};
use support::PAGE;
use support::parts::*;

/// Changes one bit at each of the places, and back.
fn flip(path: &Path, places: impl Fn(usize, usize) -> bool, mut damaged: impl FnMut(usize)) {
    let intact = std::fs::read(path).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for at in (0..intact.len()).filter(|at| places(*at, intact.len())) {
        file.write_all_at(&[intact[at] ^ 1 << (at % 8)], at as u64).unwrap();
        damaged(at);
        file.write_all_at(&[intact[at]], at as u64).unwrap();
    }
}

fn packs(parts: &Parts) -> Vec<PathBuf> {
    parts.snapshot.stored.packs.iter().map(|pack| parts.lab.packs.path(&pack.id)).collect()
}

#[test]
fn a_flipped_bit_in_any_byte_of_the_index_is_refused() {
    let parts = Parts::new();
    assert_eq!(parts.faults(), [""; 0], "the intact image must pass");
    flip(
        &parts.snapshot.index,
        |_, _| true,
        |at| {
            let faults = parts.faults();
            assert!(!faults.is_empty(), "byte {at}");
            assert!(faults.iter().all(|fault| fault.contains("memory.idx")), "{faults:?}");
        },
    );
}

#[test]
fn a_flipped_bit_in_a_pack_is_refused_and_names_the_pack() {
    let parts = Parts::new();
    for path in packs(&parts) {
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let pack = id.parse().unwrap();
        check_pack(parts.lab.packs.open(&pack).unwrap(), &pack, &()).unwrap();
        // All of the fixed parts and the table, and every 97th byte of the frames.
        let places = |at: usize, len: usize| {
            at < 64 || at + 100 > len || (at + 3000 > len && at.is_multiple_of(5)) || at.is_multiple_of(397)
        };
        flip(&path, places, |at| {
            let faults = parts.faults();
            assert!(!faults.is_empty(), "byte {at}");
            assert!(
                faults
                    .iter()
                    .all(|fault| fault.contains(&id) && (fault.contains("backup") || fault.contains("upgrade"))),
                "{faults:?}"
            );
            let checked = check_pack(parts.lab.packs.open(&pack).unwrap(), &pack, &());
            assert!(checked.is_err(), "byte {at}");
        });
    }
}

#[test]
fn an_index_or_a_pack_that_is_cut_or_longer_is_refused() {
    let parts = Parts::new();
    for path in packs(&parts).into_iter().chain([parts.snapshot.index.clone()]) {
        let intact = std::fs::read(&path).unwrap();
        let cuts = (0..intact.len()).filter(|len| *len < 200 || len + 200 > intact.len() || len.is_multiple_of(211));
        for len in cuts {
            std::fs::write(&path, &intact[..len]).unwrap();
            let faults = parts.faults();
            assert!(!faults.is_empty(), "{} at {len}", path.display());
            let named = |fault: &String| fault.contains("truncated") || fault.contains(&format!("it has {len} bytes"));
            assert!(faults.iter().all(named), "{faults:?}");
        }
        for more in [vec![0], vec![0; 4096], intact[intact.len() - 64..].to_vec()] {
            std::fs::write(&path, [intact.clone(), more].concat()).unwrap();
            assert!(!parts.faults().is_empty(), "{}", path.display());
        }
        std::fs::write(&path, &intact).unwrap();
    }
    assert_eq!(parts.faults(), [""; 0]);
}

#[test]
fn a_missing_pack_and_one_under_a_wrong_name_are_named() {
    let parts = Parts::new();
    let [one, other] = packs(&parts).try_into().unwrap();
    let kept = std::fs::read(&one).unwrap();
    std::fs::remove_file(&one).unwrap();
    let faults = parts.faults();
    let id = one.file_stem().unwrap().to_str().unwrap();
    assert!(faults.iter().all(|fault| fault.contains(&format!("pack {id} can not be had"))), "{faults:?}");
    assert!(faults[0].contains("No such file"), "{}", faults[0]);
    std::fs::copy(&other, &one).unwrap();
    let faults = parts.faults();
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault.contains(id)), "{faults:?}");
    std::fs::write(&one, kept).unwrap();
    assert_eq!(parts.faults(), [""; 0]);
}

#[test]
fn later_versions_are_refused_as_such_whatever_else_the_file_holds() {
    let parts = Parts::new();
    let mut bytes = vec![0x5a; 300];
    bytes[..8].copy_from_slice(b"dormimg\0");
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    std::fs::write(&parts.snapshot.index, bytes).unwrap();
    let faults = parts.faults();
    assert!(faults[0].contains("version 7, newer than 2: upgrade dormouse"), "{faults:?}");

    let parts = Parts::new();
    let path = &packs(&parts)[0];
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&7u32.to_le_bytes(), 8).unwrap();
    let faults = parts.faults();
    assert!(faults.iter().all(|f| f.contains("version 7, newer than 1: upgrade dormouse")), "{faults:?}");

    let index = parts.lab.path().join("disk.index");
    std::fs::write(&index, b"dormdix\0\x07\0\0\0 and more, so that there is a whole header of 64 bytes to look at")
        .unwrap();
    let error = full(&DiskIndex::read(&index, None).unwrap_err());
    assert!(error.contains("version 7, newer than 1: upgrade dormouse"), "{error}");
}

#[test]
fn a_disk_that_was_changed_behind_our_back_is_found_and_named() {
    let parts = Parts::new();
    for disk in [&parts.base, &parts.overlay] {
        let name = disk.path.file_name().unwrap().to_str().unwrap();
        flip(
            &disk.path,
            |at, _| at.is_multiple_of(4001),
            |at| {
                let faults = parts.faults();
                let named = |fault: &String| {
                    fault.contains(&format!("the {} ", disk.slot))
                        && fault.contains(name)
                        && fault.contains("was changed")
                };
                assert!(!faults.is_empty() && faults.iter().all(named), "byte {at}: {faults:?}");
            },
        );
        let intact = std::fs::read(&disk.path).unwrap();
        disk.file.set_len(10 * PAGE).unwrap();
        let faults = parts.faults();
        assert!(!faults.is_empty() && faults.iter().all(|f| f.contains("was changed")), "{faults:?}");
        std::fs::write(&disk.path, intact).unwrap();
    }
    let image = parts.snapshot.open();
    let out = tempfile::tempfile().unwrap();
    let error = image.materialise(&parts.lab.packs, &[parts.base.disk()], &out, 1, &()).unwrap_err();
    assert!(full(&error).contains("refers to the overlay disk, which is not there"), "{}", full(&error));
}

#[test]
fn an_intact_image_that_is_not_the_one_meant_is_refused() {
    let parts = Parts::new();
    let other = ImageRoot(Digest::of(b"other"));
    assert!(matches!(Image::open(&parts.snapshot.index, Some(&other)), Err(ReadError::OtherImage { .. })));
    assert!(matches!(Image::open(&parts.base.path, None), Err(ReadError::NotAnImage { .. })));
    assert!(matches!(Image::open(Path::new("/nowhere"), None), Err(ReadError::Io { .. })));
}

#[test]
fn a_disk_index_with_a_flipped_bit_or_a_wrong_length_is_refused() {
    let parts = Parts::new();
    let path = parts.lab.path().join("disk.index");
    let digest = parts.base.index.write(&parts.lab.create("disk.index")).unwrap();
    assert_eq!(digest, parts.base.index.digest());
    assert_eq!(DiskIndex::read(&path, Some(&digest)).unwrap(), parts.base.index);
    let refused = |what: &str| {
        let error = full(&DiskIndex::read(&path, None).expect_err(what));
        assert!(error.contains("disk.index") && (error.contains("made again") || error.contains("upgrade")), "{error}");
    };
    flip(&path, |_, _| true, |at| refused(&format!("byte {at}")));
    let intact = std::fs::read(&path).unwrap();
    for len in 0..intact.len() {
        std::fs::write(&path, &intact[..len]).unwrap();
        refused(&format!("cut to {len}"));
    }
    std::fs::write(&path, [intact.as_slice(), &[0; 20]].concat()).unwrap();
    refused("longer");
    std::fs::write(&path, &intact).unwrap();
    let other = Digest::of(b"other");
    let error = full(&DiskIndex::read(&path, Some(&other)).unwrap_err());
    assert!(error.contains("another one than was meant"), "{error}");
}

#[test]
fn a_pack_that_changes_after_it_was_opened_fails_when_it_is_read() {
    let parts = Parts::new();
    let image = parts.snapshot.open();
    let disks = parts.disks();
    let mut reader = image.pages(&parts.lab.packs, &disks);
    let mut content = [0; 4096];
    reader.read(dormouse_guest_mem::PageIndex(0), &mut content).unwrap();
    for path in packs(&parts) {
        let len = path.metadata().unwrap().len();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&vec![0; len as usize - 1000], 500).unwrap();
    }
    let error = reader.read(dormouse_guest_mem::PageIndex(39), &mut content).unwrap_err();
    assert!(matches!(error, ReadError::PackDamaged { .. }), "{error}");
}

#[test]
fn everything_that_is_wrong_is_told_and_not_only_the_first() {
    let parts = Parts::new();
    let image = parts.snapshot.open();
    let told = || {
        let told = std::sync::Mutex::new(std::collections::BTreeSet::new());
        let tell = |fault: ReadError| {
            told.lock().unwrap().insert(match fault {
                ReadError::PackDamaged { pack, .. } => pack.to_string(),
                ReadError::Pack(gone) => format!("no {}", gone.pack),
                ReadError::DiskChanged { disk, .. } => disk.to_string(),
                other => full(&other),
            });
        };
        image.find_faults(&parts.lab.packs, &parts.disks(), 2, &tell, &()).unwrap();
        told.into_inner().unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(told(), [""; 0]);
    let [one, other] = packs(&parts).try_into().unwrap();
    let id = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    flip(
        &one,
        |at, len| at == len / 2,
        |_| {
            flip(
                &parts.base.path,
                |at, _| at == 4001,
                |_| {
                    flip(
                        &parts.overlay.path,
                        |at, _| at == 4001,
                        |_| {
                            std::fs::rename(&other, other.with_extension("away")).unwrap();
                            let mut expected =
                                vec![id(&one), format!("no {}", id(&other)), "base disk".into(), "overlay disk".into()];
                            expected.sort();
                            assert_eq!(told(), expected);
                            std::fs::rename(other.with_extension("away"), &other).unwrap();
                        },
                    );
                },
            );
        },
    );
    assert_eq!(told(), [""; 0]);
}

#[test]
fn the_identity_of_a_disks_content_changes_with_any_block_of_it() {
    let parts = Parts::new();
    let content = || DiskIndex::build_with_content(&parts.base.file, 2, &()).unwrap();
    let (index, before) = content();
    assert_eq!(index, parts.base.index);
    assert_eq!(content().1, before, "however many threads were quicker");
    flip(&parts.base.path, |at, _| at.is_multiple_of(2003), |at| assert_ne!(content().1, before, "byte {at}"));
    // The same blocks in other places.
    let mut bytes = std::fs::read(&parts.base.path).unwrap();
    let (first, rest) = bytes.split_at_mut(4096);
    first.swap_with_slice(&mut rest[..4096]);
    std::fs::write(&parts.base.path, bytes).unwrap();
    assert_ne!(content().1, before);
}
