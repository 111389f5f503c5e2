//! The folder of packs, without anything going wrong with the machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use dormouse_guest_mem::Bytes;
use dormouse_store::gc::References;
use dormouse_store::{PackId, Packs, Steps, StoreError};
use support::{Hashed, content, files, id_of, name, open, put, put_pinned, read};

mod support;

#[test]
fn a_pack_lies_under_its_name_and_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let (id, _pins) = put_pinned(&packs, b"hello");
    let text = id.to_string();
    assert_eq!(files(dir.path()), [format!("{}/{text}.pack", &text[..2])]);
    assert_eq!(read(&packs, &id), b"hello");
    assert_eq!(packs.len(&id).unwrap(), Some(Bytes(5)));
    assert_eq!(packs.list().unwrap().iter().map(|p| (p.id, p.len)).collect::<Vec<_>>(), [(id, Bytes(5))]);
}

#[test]
fn the_same_pack_twice_is_one_file_and_mends_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let (id, _first) = put_pinned(&packs, b"hello");
    let path = dir.path().join(&files(dir.path())[0]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"hellO").unwrap();
    let (again, _second) = put_pinned(&packs, b"hello");
    assert_eq!(again, id);
    assert_eq!(files(dir.path()).len(), 1);
    packs.verify(&id).unwrap();
}

#[test]
fn a_file_that_is_not_the_pack_of_its_name_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let staged = packs.stage().unwrap();
    staged.file().write_all(b"other").unwrap();
    let wanted = id_of(b"hello");
    let error = packs.put(staged, &wanted).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { id, .. } if *id == wanted), "{error}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_flipped_bit_is_found_and_the_pack_named() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let (good, _a) = put_pinned(&packs, &content(1, 5000));
    let (bad, _b) = put_pinned(&packs, &content(2, 5000));
    let text = bad.to_string();
    let path = dir.path().join(&text[..2]).join(format!("{text}.pack"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[4321] ^= 0x10;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let error = packs.verify(&bad).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { id, .. } if id == bad));
    assert!(error.to_string().contains(&text), "{error}");
    packs.verify(&good).unwrap();
}

#[test]
fn a_missing_pack_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let id = id_of(b"never written");
    for error in [packs.open_pack(&id).unwrap_err(), packs.verify(&id).unwrap_err()] {
        assert!(matches!(error, StoreError::Missing { id: named } if named == id));
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

#[test]
fn a_dropped_stage_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let staged = packs.stage().unwrap();
    staged.file().write_all(b"half").unwrap();
    drop(staged);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn files_that_are_no_packs_are_neither_listed_nor_collected() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let id = id_of(b"x").to_string();
    // A note of somebody, a name that is no hash, a pack in the wrong folder.
    let others = ["note.txt".to_owned(), "ab/zz.pack".to_owned(), format!("zz/{id}.pack")];
    for other in &others {
        let path = dir.path().join(other);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    fs::create_dir_all(dir.path().join(&id[..2]).join(format!("{id}.pack"))).unwrap();
    packs.set_references(References::default());
    assert!(packs.list().unwrap().is_empty());
    packs.collect().unwrap();
    assert_eq!(files(dir.path()).len(), others.len());
}

#[test]
fn only_what_no_snapshot_needs_and_nobody_pins_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let kept = put(&packs, b"kept");
    let shared = put(&packs, b"shared");
    let gone = put(&packs, b"gone!");
    let (pinned, pins) = put_pinned(&packs, b"pinned");
    let lost = id_of(b"lost");
    assert!(matches!(packs.collect(), Err(StoreError::ReferencesUnknown)), "nothing is known to be unneeded yet");
    assert!(matches!(packs.remove(&gone), Err(StoreError::ReferencesUnknown)));
    packs.set_references(
        [(name("a"), [kept, shared].into()), (name("b"), [shared, gone, lost].into())].into_iter().collect(),
    );
    assert!(matches!(packs.remove(&gone), Err(StoreError::InUse { .. })));
    packs.unrefer(&name("b"));
    packs.refer(name("c"), [shared, lost].into());
    let collected = packs.collect().unwrap();
    assert_eq!((collected.removed, collected.freed), (vec![gone], Bytes(5)));
    assert_eq!(collected.absent, [(lost, vec![name("c")])].into());
    let left: Vec<_> = packs.list().unwrap().iter().map(|p| p.id).collect();
    assert!([kept, shared, pinned].iter().all(|id| left.contains(id)));
    drop(pins);
    assert_eq!(packs.collect().unwrap().removed, [pinned]);
}

#[test]
fn one_pack_is_removed_only_if_it_is_there_and_nobody_pins_or_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    packs.set_references([(name("s"), [id_of(b"needed")].into())].into_iter().collect());
    let (needed, (pinned, pins)) = (put(&packs, b"needed"), put_pinned(&packs, b"pinned"));
    for id in [needed, pinned] {
        assert!(matches!(packs.remove(&id), Err(StoreError::InUse { id: named }) if named == id));
    }
    drop(pins);
    packs.remove(&pinned).unwrap();
    assert!(matches!(packs.remove(&pinned), Err(StoreError::Missing { id }) if id == pinned));
    assert_eq!(read(&packs, &needed), b"needed");
}

#[test]
fn what_becomes_pinned_or_needed_while_others_are_collected_stays() {
    for needed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (late, held) = (Arc::new(OnceLock::<(Packs, [PackId; 2])>::new()), Arc::new(Mutex::new(None)));
        let (seen, kept) = (Arc::clone(&late), Arc::clone(&held));
        // When the first one is gone somebody comes and wants the other.
        let steps = Steps::telling(move |step| {
            let Some((packs, ids)) = seen.get().filter(|_| step == "removed") else { return };
            for id in ids.iter().filter(|id| packs.len(id).unwrap().is_some()) {
                if needed {
                    packs.refer(name("late"), [*id].into());
                } else {
                    *kept.lock().unwrap() = Some(packs.pin([*id]));
                }
            }
        });
        let packs = Packs::open_with(dir.path(), Arc::new(Hashed), steps).unwrap();
        packs.set_references(References::default());
        let ids = [put(&packs, b"a"), put(&packs, b"b")];
        late.set((packs.clone(), ids)).unwrap();
        assert_eq!(packs.collect().unwrap().removed.len(), 1, "needed: {needed}");
        assert_eq!(packs.list().unwrap().len(), 1, "needed: {needed}");
        drop(held.lock().unwrap().take());
    }
}

#[test]
fn packs_are_for_their_owner_only_and_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("packs");
    let packs = open(&root);
    let id = put(&packs, b"hello").to_string();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = root.join(&id[..2]);
    let staged = packs.stage().unwrap();
    assert_eq!([&root, &folder].map(|dir| mode(dir)), [0o700; 2]);
    assert_eq!((mode(&folder.join(format!("{id}.pack"))), mode(staged.path())), (0o400, 0o600));
}

#[test]
fn a_pack_is_pinned_from_when_it_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    packs.set_references(References::default());
    let (id, pins) = put_pinned(&packs, b"new");
    assert!(packs.collect().unwrap().removed.is_empty());
    packs.refer(name("s"), [id].into());
    drop(pins);
    assert!(packs.collect().unwrap().removed.is_empty());
}

#[test]
fn pins_count_and_join() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    packs.set_references(References::default());
    let (id, mut all) = put_pinned(&packs, b"a");
    let (other, more) = put_pinned(&packs, b"b");
    let again = packs.pin([id]);
    all.join(more);
    drop(again);
    assert!(packs.collect().unwrap().removed.is_empty(), "the first pins still hold both");
    assert_eq!(all.ids(), [id, other]);
    drop(all);
    assert_eq!(packs.collect().unwrap().removed.len(), 2);
}

#[test]
fn the_longest_unused_packs_go_first_and_opening_one_is_using_it() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let ids: Vec<_> = (0..4).map(|seed| put(&packs, &content(seed, 100))).collect();
    let second = std::time::Duration::from_secs(1);
    for (age, id) in [40, 30, 20, 10].into_iter().zip(&ids) {
        packs.open_pack(id).unwrap().set_modified(std::time::SystemTime::now() - age * second).unwrap();
    }
    read(&packs, &ids[0]);
    let not_uploaded = ids[1];
    let (done, plan) = packs.evict(Bytes(250), |id| *id != not_uploaded).unwrap();
    assert_eq!((done.removed, plan.over), (vec![ids[2], ids[3]], Bytes(0)));
    assert_eq!(read(&packs, &ids[0]), content(0, 100));
    let _pins = packs.pin([ids[0]]);
    let (done, plan) = packs.evict(Bytes(0), |id| *id != not_uploaded).unwrap();
    assert_eq!((done.removed, plan.over), (vec![], Bytes(200)), "pinned, and not uploaded");
}

#[test]
fn an_open_pack_stays_readable_when_it_is_evicted() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let id = put(&packs, b"hello");
    let mut file = packs.open_pack(&id).unwrap();
    packs.evict(Bytes(0), |_| true).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert!(matches!(packs.open_pack(&id), Err(StoreError::Missing { .. })));
}

#[test]
fn what_is_said_while_the_manifests_are_read_counts_more_than_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let [old, new, gone, idle] = [b"old", b"new", b"gon", b"idl"].map(|bytes| put(&packs, bytes));
    packs
        .recall(|| {
            // Published and removed after the reader passed by.
            packs.refer(name("young"), [new].into());
            packs.unrefer(&name("late"));
            Ok::<_, ()>(References::from_iter([(name("here"), [old].into()), (name("late"), [gone].into())]))
        })
        .unwrap();
    let plan = packs.plan().unwrap();
    let mut expected = [gone, idle];
    expected.sort();
    assert_eq!(plan.remove.iter().map(|pack| pack.id).collect::<Vec<_>>(), expected);
    assert_eq!(packs.recall(|| Err::<References, _>("one cannot be read")), Err("one cannot be read"));
    assert_eq!(packs.plan().unwrap(), plan, "nothing changes when the manifests cannot be read");
    packs.collect().unwrap();
    assert_eq!((read(&packs, &old), read(&packs, &new)), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn half_written_packs_are_leftovers_only_when_nobody_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let packs = open(dir.path());
    let staged = packs.stage().unwrap();
    staged.file().write_all(b"half").unwrap();
    fs::write(dir.path().join("staging/left.part"), [7; 5000]).unwrap();
    let (count, bytes) = packs.leftovers(false).unwrap();
    assert_eq!(count, 1);
    assert!(bytes.0 >= 5000, "{bytes}");
    assert_eq!(packs.leftovers(true).unwrap(), (count, bytes));
    assert_eq!(packs.leftovers(false).unwrap(), (0, Bytes(0)));
    drop(packs.put(staged, &id_of(b"half")).unwrap());
}
