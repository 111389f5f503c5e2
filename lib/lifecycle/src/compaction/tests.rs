//! Compaction beside readers, removals, VMs and crashes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{compact, one, swap};
use crate::snapshot::lab::{Lab, ram_of, start, verify};
use crate::snapshot::list_dir;
use crate::{Error, Host, SnapshotId};

/// The last of a chain of pauses, each of which wrote pages of its own; those before are gone.
fn chain(lab: &Lab, host: &Host, pauses: u32) -> SnapshotId {
    let mut newest = lab.template.clone();
    for n in 0..pauses {
        let from = 300 + n * 20;
        let next = lab.snapshot(host, &newest, &[from..from + 20], u64::from(n) + 10);
        if newest != lab.template {
            crate::kept::remove(&host.shared, &newest).unwrap();
        }
        newest = next;
    }
    newest
}

fn packs_of(host: &Host, id: &SnapshotId) -> usize {
    host.stored(id).unwrap().packs().len()
}

fn packs_here(host: &Host) -> usize {
    host.shared.packs.packs().list().unwrap().len()
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        list_dir(dir).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_long_chain_becomes_few_packs_and_the_same_ram() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 7);
    let (ram, before) = (ram_of(&host, &id), packs_here(&host));
    assert_eq!((packs_of(&host, &id), before), (8, 8));
    let outcome = compact(&host.shared, &id).await.unwrap();
    assert_eq!((outcome.packs_before, outcome.packs_after), (8, packs_of(&host, &id)));
    assert!(outcome.packs_after <= 5, "{outcome:?}");
    assert_eq!(packs_here(&host), outcome.packs_after, "what nobody needs any more is gone");
    assert!(ram_of(&host, &id) == ram);
    assert_eq!(files(&host.shared.folder.snapshot(&id)).len(), 4);
    assert_eq!(files(&host.shared.folder.staging()), [""; 0]);
    assert!(verify(&host, Vec::new()).await.damaged.is_empty());
    assert!(compact(&host.shared, &id).await.is_none(), "there is nothing more to do");
    let stats = host.store_stats().await.unwrap();
    assert_eq!((stats.compacted, stats.compacted_bytes, stats.compactions_failed), (1, outcome.written, 0));
    // The next daemon finds the same.
    host.shutdown().await;
    drop(host);
    let host = lab.open().await;
    assert!(ram_of(&host, &id) == ram);
}

#[tokio::test]
async fn whoever_began_to_read_reads_on_from_what_there_was() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 7);
    let ram = ram_of(&host, &id);
    let held = host.shared.readers.hold(&id);
    let stored = host.stored(&id).unwrap();
    let after = compact(&host.shared, &id).await.unwrap().packs_after;
    assert!(stored.memory_file().exists());
    stored.verify(&host.shared.folder.artifacts(), &host.shared.packs, 1).unwrap();
    assert!(verify(&host, Vec::new()).await.damaged.is_empty(), "both are whole");
    assert!(packs_here(&host) > after);
    drop(held);
    assert!(!stored.memory_file().exists());
    assert_eq!(packs_here(&host), after);
    assert!(ram_of(&host, &id) == ram);
}

#[tokio::test]
async fn a_vm_that_was_started_before_inherits_from_the_compacted_image() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 7);
    let ram = ram_of(&host, &id);
    let run = start(&host, &id);
    let after = compact(&host.shared, &id).await.unwrap().packs_after;
    assert_eq!(packs_here(&host), after, "the VM needs no others either");
    crate::kept::remove(&host.shared, &id).unwrap();
    assert_eq!(packs_here(&host), after, "but these it needs");
    let next = lab.pause(&host, &run, &[700..705], 99);
    assert_eq!(packs_of(&host, &next), after + 1);
    let now = ram_of(&host, &next);
    assert!(now[300 * 4096..650 * 4096] == ram[300 * 4096..650 * 4096]);
    assert!(verify(&host, Vec::new()).await.damaged.is_empty());
}

#[tokio::test]
async fn the_number_of_packs_stays_bounded_however_many_pauses_there_were() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let mut newest = lab.template.clone();
    for n in 0..60 {
        // The sandbox runs again before its snapshot is compacted, as it may happen each time.
        let run = start(&host, &newest);
        compact(&host.shared, &newest).await;
        let from = 300 + (n * 7) % 500;
        let next = lab.pause(&host, &run, &[from..from + 12], u64::from(n) + 10);
        if newest != lab.template {
            crate::kept::remove(&host.shared, &newest).unwrap();
        }
        newest = next;
        assert!(packs_of(&host, &newest) <= 1 + 4 + 1, "after {n} pauses: {}", packs_of(&host, &newest));
    }
    assert!(host.store_stats().await.unwrap().compacted > 5);
    assert!(verify(&host, Vec::new()).await.damaged.is_empty());
}

#[tokio::test]
async fn a_compaction_that_is_told_to_stop_leaves_everything_as_it_was() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 7);
    let stopped = one::compact(&host.shared, &id, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert_eq!((packs_of(&host, &id), packs_here(&host)), (8, 8));
    assert_eq!(files(&host.shared.folder.staging()), [""; 0]);
    assert_eq!(files(&lab.dir.join("packs/staging")), [""; 0]);
    host.shutdown().await;
    assert!(compact(&host.shared, &id).await.is_none(), "nothing begins after the end");
    assert_eq!(packs_of(&host, &id), 8);
}

#[tokio::test]
async fn a_snapshot_that_was_removed_meanwhile_does_not_come_to_life_again() {
    let lab = Lab::new().await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 2);
    let stored = host.stored(&id).unwrap();
    let image = stored.image().unwrap();
    let made = dormouse_image::Stored {
        pack: None,
        packs: stored.packs().to_vec(),
        root: stored.image_root(),
        index_len: stored.index_len(),
        ram_digest: image.ram_digest().unwrap(),
        summary: image.summary().clone(),
    };
    let index = lab.dir.join("copy");
    fs::copy(stored.memory_file(), &index).unwrap();
    crate::kept::remove(&host.shared, &id).unwrap();
    fs::create_dir(&stored.dir).unwrap();
    assert!(!swap::swap(&host.shared, &stored, &made, &index, &AtomicBool::new(false)).unwrap());
    assert_eq!(files(&stored.dir), [""; 0]);
}

const DIR: &str = "DORMOUSE_TEST_CRASH_DIR";
const STEP: &str = "DORMOUSE_TEST_CRASH_STEP";
const CRASH: &str = "compaction::tests::a_process_that_dies_at_any_step_of_it_loses_nothing_and_leaves_nothing";

/// In the child: compacts what there is and collects, and dies at a step.
async fn doomed(dir: &Path) {
    let last: u64 = std::env::var(STEP).unwrap().parse().unwrap();
    let seen = AtomicU64::new(0);
    let told = move |_: &str| {
        if seen.fetch_add(1, Ordering::Relaxed) == last {
            std::process::abort();
        }
    };
    assert!(crate::steps::TOLD.set(Box::new(told)).is_ok());
    let host = crate::snapshot::lab::open(dir).await;
    idle(&host).await;
    host.collect_garbage(false).await.unwrap();
}

async fn idle(host: &Host) {
    while host.shared.compactor.waiting() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Runs this test in a child that dies at step `step`. Whether it came to that.
fn dies(dir: &Path, step: u64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", CRASH, "--nocapture"]).env(DIR, dir).env(STEP, step.to_string());
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let aborted = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
    assert!(aborted || status.success(), "the child failed by itself: {status}");
    aborted
}

#[tokio::test]
async fn a_process_that_dies_at_any_step_of_it_loses_nothing_and_leaves_nothing() {
    if let Some(dir) = std::env::var_os(DIR) {
        return doomed(Path::new(&dir)).await;
    }
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    let lab = Lab::at(&whole).await;
    let host = lab.open().await;
    let id = chain(&lab, &host, 7);
    let ram = ram_of(&host, &id);
    // A VM that nobody looks after is ended by the next daemon, and with it goes the need for its packs.
    drop(start(&host, &id));
    host.shutdown().await;
    drop(host);
    let mut step = 0;
    loop {
        let dir = place.path().join(step.to_string());
        assert!(Command::new("cp").arg("-a").arg(&whole).arg(&dir).status().unwrap().success());
        let died = dies(&dir, step);
        let host = crate::snapshot::lab::open(&dir).await;
        idle(&host).await;
        let report = verify(&host, Vec::new()).await;
        assert_eq!((report.damaged, report.good.len()), (Vec::new(), 2), "step {step}");
        assert!(ram_of(&host, &id) == ram, "step {step}");
        let stats = host.store_stats().await.unwrap();
        assert!(
            stats.packs_per_snapshot_max <= 5 && stats.needed.iter().all(|row| row.by > 0),
            "step {step}: {stats:?}"
        );
        assert_eq!(files(&host.shared.folder.snapshot(&id)).len(), 4, "step {step}");
        for rest in ["staging", "packs/staging", "run", "cache"] {
            assert_eq!(files(&dir.join(rest)), [""; 0], "step {step}: {rest}");
        }
        host.shutdown().await;
        drop(host);
        fs::remove_dir_all(&dir).unwrap();
        if !died {
            break;
        }
        step += 1;
    }
    assert!(step >= 14, "only {step} steps were died at");
}
