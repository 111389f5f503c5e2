//! Damage of every kind, and what is removed and what is not.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{DamagedObject, ObjectKind, VerifyReport, VerifyWatch};
use crate::snapshot::lab::{Lab, PAGES};
use crate::{Error, Host, SnapshotId};

#[derive(Default)]
struct Watch {
    told: Mutex<Vec<DamagedObject>>,
    cancelled: AtomicBool,
    /// Done when a step of this name begins.
    at: Mutex<Option<(String, Box<dyn FnOnce() + Send>)>>,
}

impl VerifyWatch for Watch {
    fn step(&self, text: &str) {
        let mut at = self.at.lock().unwrap();
        if at.as_ref().is_some_and(|(step, _)| text.contains(step.as_str())) {
            at.take().unwrap().1();
        }
    }

    fn advance(&self, done: u64, total: u64) {
        assert!(done <= total, "{done} of {total}");
    }

    fn damaged(&self, object: &DamagedObject) {
        self.told.lock().unwrap().push(object.clone());
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

async fn verify(host: &Host) -> VerifyReport {
    host.verify_store(Vec::new(), Arc::new(Watch::default())).await.unwrap()
}

fn flip(path: &Path, at: u64) {
    let writable = fs::Permissions::from(std::os::unix::fs::PermissionsExt::from_mode(0o600));
    fs::set_permissions(path, writable).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn sorted(mut ids: Vec<SnapshotId>) -> Vec<SnapshotId> {
    ids.sort();
    ids
}

/// The pack that only this snapshot needs.
fn own_pack(host: &Host, id: &SnapshotId, others: &[&SnapshotId]) -> PathBuf {
    let packs = |id: &SnapshotId| host.stored(id).unwrap().packs().to_vec();
    let shared: Vec<_> = others.iter().flat_map(|other| packs(other)).collect();
    let own = packs(id).into_iter().find(|pack| !shared.contains(pack)).unwrap();
    let name = own.id.file_name();
    host.shared.folder.packs().join(&name[..2]).join(name)
}

#[tokio::test]
async fn a_flipped_bit_in_any_kind_of_object_is_found_named_and_hurts_only_who_needs_it() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let template = lab.template.clone();
    // The first one writes over what is on the base disk; the second one still needs it.
    let without = lab.snapshot(&host, &template, &[100..140, 300..350], 2);
    let with = lab.snapshot(&host, &template, &[300..350], 3);
    let all = sorted(vec![template.clone(), without.clone(), with.clone()]);
    let report = verify(&host).await;
    assert_eq!((report.good, report.damaged, report.packs), (all.clone(), Vec::new(), 3));

    let dir = |id: &SnapshotId| host.shared.folder.snapshot(id);
    let pack = own_pack(&host, &with, &[&template, &without]);
    let end = len(&pack);
    let disk_index = fs::read_dir(lab.dir.join("disk-indexes")).unwrap().next().unwrap().unwrap().path();
    let manifest = dir(&with).join("manifest.json");
    let body = fs::read_to_string(&manifest).unwrap().find("\"body\"").unwrap() as u64;
    let mine = vec![with.clone()];
    let on_base = sorted(vec![template.clone(), with.clone()]);
    for (kind, path, at, hurt) in [
        (ObjectKind::Pack, pack.clone(), end / 2, &mine),
        (ObjectKind::Pack, pack.clone(), 3, &mine),
        (ObjectKind::Pack, pack.clone(), end - 20, &mine),
        (ObjectKind::Index, dir(&with).join("memory.idx"), 90, &mine),
        (ObjectKind::Manifest, manifest, body + 40, &mine),
        (ObjectKind::DeviceState, dir(&with).join("device.state.zst"), 30, &mine),
        // In RAM too, and on the disk alone.
        (ObjectKind::Overlay, dir(&with).join("overlay.ext4"), 3 * 4096 + 9, &mine),
        (ObjectKind::Overlay, dir(&with).join("overlay.ext4"), 30 * 4096 + 9, &mine),
        (ObjectKind::BaseDisk, lab.base_disk(), 7 * 4096 + 1, &on_base),
        (ObjectKind::DiskIndex, disk_index, 100, &Vec::new()),
    ] {
        flip(&path, at);
        let watch = Arc::new(Watch::default());
        let report = host.verify_store(Vec::new(), Arc::clone(&watch) as _).await.unwrap();
        let [object] = &report.damaged[..] else { panic!("{kind:?} at {at}: {report:?}") };
        assert_eq!((object.kind, object.path.as_str()), (kind, path.strip_prefix(&lab.dir).unwrap().to_str().unwrap()));
        assert_eq!(&object.snapshots, hurt, "{object:?}");
        assert!(!object.reason.is_empty());
        assert_eq!(&report.hurt, hurt);
        let good: Vec<_> = all.iter().filter(|id| !hurt.contains(id)).cloned().collect();
        assert_eq!(report.good, good);
        assert_eq!(watch.told.lock().unwrap().last(), Some(object), "told as soon as it is known");
        // The same, asked for those alone that are not hurt: of a shared pack everything is still read.
        if !good.is_empty() && kind != ObjectKind::DiskIndex {
            let report = host.verify_store(good.clone(), Arc::new(Watch::default())).await.unwrap();
            assert_eq!((report.good, report.damaged), (good, Vec::new()));
        }
        flip(&path, at);
    }
    let report = verify(&host).await;
    assert_eq!((report.good, report.damaged), (all, Vec::new()));
}

#[tokio::test]
async fn what_is_missing_is_named_as_what_is_damaged_is() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = lab.snapshot(&host, &lab.template, &[300..350], 2);
    let dir = host.shared.folder.snapshot(&id);
    let pack = own_pack(&host, &id, &[&lab.template]);
    let both = sorted(vec![lab.template.clone(), id.clone()]);
    for (kind, path, hurt) in [
        (ObjectKind::Pack, pack, vec![id.clone()]),
        (ObjectKind::Index, dir.join("memory.idx"), vec![id.clone()]),
        (ObjectKind::DeviceState, dir.join("device.state.zst"), vec![id.clone()]),
        (ObjectKind::Overlay, dir.join("overlay.ext4"), vec![id.clone()]),
        (ObjectKind::Manifest, dir.join("manifest.json"), vec![id.clone()]),
        (ObjectKind::BaseDisk, lab.base_disk(), both.clone()),
    ] {
        let away = lab.dir.join("away");
        fs::rename(&path, &away).unwrap();
        let report = verify(&host).await;
        let [object] = &report.damaged[..] else { panic!("{kind:?}: {report:?}") };
        assert_eq!((object.kind, lab.dir.join(&object.path)), (kind, path.clone()));
        assert_eq!((&object.snapshots, &report.hurt), (&hurt, &hurt));
        fs::rename(&away, &path).unwrap();
    }
    assert_eq!(verify(&host).await.good, both);
    let none = SnapshotId::random().unwrap();
    let error = host.verify_store(vec![none.clone()], Arc::new(Watch::default())).await.unwrap_err();
    assert!(matches!(error, Error::NoSnapshot(id) if id == none));
}

#[tokio::test]
async fn a_snapshot_that_is_removed_while_it_is_checked_is_no_damage() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = lab.snapshot(&host, &lab.template, &[300..350], 2);
    let watch = Watch::default();
    let (shared, removed) = (Arc::clone(&host.shared), id.clone());
    let remove = move || crate::kept::remove(&shared, &removed).unwrap();
    *watch.at.lock().unwrap() = Some((format!("snapshot {id}"), Box::new(remove)));
    let report = host.verify_store(Vec::new(), Arc::new(watch)).await.unwrap();
    assert_eq!((report.good, report.hurt), (vec![lab.template.clone()], Vec::new()));
    assert_eq!(report.damaged, Vec::new());
}

#[tokio::test]
async fn a_verification_that_nobody_wants_any_more_ends() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    for step in ["packs", "snapshot"] {
        let watch = Arc::new(Watch::default());
        let told = Arc::downgrade(&watch);
        let cancel = move || told.upgrade().unwrap().cancelled.store(true, Ordering::Relaxed);
        *watch.at.lock().unwrap() = Some((step.to_owned(), Box::new(cancel)));
        let error = host.verify_store(Vec::new(), watch).await.unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{step}: {error}");
    }
}

#[tokio::test]
async fn what_nobody_needs_is_removed_and_a_dry_run_only_says_so() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = lab.snapshot(&host, &lab.template, &[300..350], 2);
    let other = lab.snapshot(&host, &lab.template, &[300..350], 3);
    let pack = own_pack(&host, &id, &[&lab.template, &other]);
    // As if the daemon did not get to it.
    fs::remove_dir_all(host.shared.folder.snapshot(&id)).unwrap();
    fs::write(lab.dir.join("packs/staging/77.part"), vec![7; 9000]).unwrap();
    let half = lab.dir.join("staging/.staging-half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("memory.idx"), vec![7; 9000]).unwrap();

    let would = host.collect_garbage(true).await.unwrap();
    assert_eq!((would.packs, would.packs_freed.0, would.leftovers), (1, len(&pack), 2));
    assert!(would.leftovers_freed.0 >= 18000, "{would:?}");
    assert!(pack.exists() && half.exists());
    assert_eq!(host.collect_garbage(false).await.unwrap(), would);
    assert!(!pack.exists() && !half.exists() && !lab.dir.join("packs/staging/77.part").exists());
    let after = host.collect_garbage(false).await.unwrap();
    assert_eq!((after.packs, after.leftovers), (0, 0));
    // The record of what was removed is a lie of this test.
    let report = verify(&host).await;
    assert_eq!(report.good, sorted(vec![lab.template.clone(), other]));
}

#[tokio::test]
async fn nothing_is_removed_while_it_is_not_known_what_something_needs() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = lab.snapshot(&host, &lab.template, &[300..350], 2);
    let pack = own_pack(&host, &id, &[&lab.template]);
    let manifest = host.shared.folder.snapshot(&id).join("manifest.json");
    let run = lab.dir.join("run/i00000000000000000000");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("parent.idx"), "no index").unwrap();
    flip(&manifest, 200);
    let error = host.collect_garbage(false).await.unwrap_err().to_string();
    assert!(error.contains(manifest.to_str().unwrap()) && error.contains("1 more"), "{error}");
    assert_eq!(host.store_stats().await.unwrap().unreadable.len(), 2);
    flip(&manifest, 200);
    let error = host.collect_garbage(false).await.unwrap_err().to_string();
    assert!(error.contains("parent.idx") && !error.contains("more;"), "{error}");
    assert!(pack.exists());
    fs::remove_dir_all(&run).unwrap();
    let collected = host.collect_garbage(false).await.unwrap();
    assert_eq!((collected.packs, collected.absent), (0, Vec::new()));
    fs::rename(&pack, lab.dir.join("away")).unwrap();
    let absent = host.collect_garbage(false).await.unwrap().absent;
    assert_eq!(absent.len(), 1);
    assert_eq!(absent[0].1, [id.to_string()]);
}

#[tokio::test]
async fn statistics_account_for_every_page_and_every_pack() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = lab.snapshot(&host, &lab.template, &[300..350], 2);
    lab.snapshot(&host, &id, &[400..410], 3);
    let stats = host.store_stats().await.unwrap();
    assert_eq!((stats.snapshots, stats.packs, stats.absent_packs), (3, 3, 0));
    assert_eq!((stats.packs_per_snapshot_median, stats.packs_per_snapshot_max), (2, 3));
    assert_eq!(stats.needed.iter().map(|row| (row.by, row.packs)).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(stats.needed.iter().map(|row| row.bytes.0).sum::<u64>(), stats.packs_on_disk.0);
    let by = stats.ram_by;
    let sum = [by.free, by.zero, by.parent, by.disk, by.duplicate, by.data].iter().map(|b| b.0).sum::<u64>();
    assert_eq!((stats.ram.0, sum), (3 * u64::from(PAGES) * 4096, stats.ram.0));
    assert_eq!(by.data.0, (100 + 50 + 10) * 4096, "each page by the pause that stored it");
    assert!(stats.indexes.0 > 0 && stats.device_states.0 > 0 && stats.overlays.0 > 0);
    // Somebody forgot to collect.
    fs::remove_dir_all(host.shared.folder.snapshot(&lab.template)).unwrap();
    fs::remove_dir_all(host.shared.folder.snapshot(&id)).unwrap();
    let stats = host.store_stats().await.unwrap();
    assert_eq!((stats.snapshots, stats.needed[0].by), (1, 1));
}
