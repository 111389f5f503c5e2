//! A daemon that dies at any step of an upload, of a removal, and of a collection of the remote. Each test runs itself
//! again as a child that aborts at the n-th step, looks at what that left, and lets another daemon go on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use dormouse_store::Steps;
use dormouse_store::remote::{LocalSnapshot, Target};

use crate::rig::{Daemon, INDEX, MANIFEST, Machine, bounded, limits, start_at};
use crate::support::{content, files, name};

const DIR: &str = "STORE_REMOTE_CRASH_DIR";
const STEP: &str = "STORE_REMOTE_CRASH_STEP";

fn target(dir: &Path) -> Target {
    Target::Folder(dir.join("remote"))
}

/// In the child: a daemon that ends at the step that the parent asked for.
fn doomed() -> Option<Daemon> {
    let dir = PathBuf::from(std::env::var_os(DIR)?);
    let last: u64 = std::env::var(STEP).unwrap().parse().unwrap();
    let seen = AtomicU64::new(0);
    let steps = Steps::telling(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == last {
            std::process::abort();
        }
    });
    let mut one_by_one = limits();
    one_by_one.packs_at_once = 1;
    Some(start_at(&dir, target(&dir), one_by_one, None, &steps))
}

fn dies(test: &str, dir: &Path, step: u64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(DIR, dir).env(STEP, step.to_string());
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let aborted = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
    assert!(aborted || status.success(), "the child failed by itself: {status}");
    aborted
}

/// Every record on the remote names only what is there, whole.
async fn consistent(machine: &Machine) {
    let fresh = Machine::new();
    let reader = fresh.start(target(machine.path()));
    for name in reader.remote.list().await.unwrap() {
        let into = fresh.path().join("snapshots").join(name.as_str());
        fs::create_dir(&into).unwrap();
        let record = reader.remote.fetch_snapshot(&name, &into).await.unwrap();
        let _pins = reader.remote.ensure(record.packs).await.unwrap();
    }
}

/// Goes on with what is in the state folder, as a daemon does when it starts.
async fn goes_on(machine: &Machine, snapshots: &[&str]) -> Daemon {
    let daemon = machine.start(target(machine.path()));
    let packs: BTreeSet<_> = daemon.packs.list().unwrap().iter().map(|pack| pack.id).collect();
    let local = snapshots.iter().map(|text| daemon.described(text, packs.clone())).collect();
    daemon.remote.reconcile(local, true).await.unwrap();
    assert_eq!(daemon.settled().await, Vec::<String>::new());
    consistent(machine).await;
    daemon
}

/// A machine with a published snapshot of two packs that has not gone up.
fn paused() -> Machine {
    let machine = Machine::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let daemon = machine.start(target(machine.path()));
    daemon.snapshot("snap", [daemon.put(&content(1, 1000)), daemon.put(&content(2, 5_300_000))]);
    machine
}

fn all_of(daemon: &Daemon, text: &str) -> LocalSnapshot {
    let packs: Vec<_> = daemon.packs.list().unwrap().iter().map(|pack| pack.id).collect();
    daemon.described(text, packs)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_died_goes_on() {
    const TEST: &str = "crash::an_upload_that_died_goes_on";
    if let Some(daemon) = doomed() {
        daemon.upload(&all_of(&daemon, "snap")).await;
        return;
    }
    let mut steps = 0;
    loop {
        let machine = tokio::task::spawn_blocking(paused).await.unwrap();
        let died = dies(TEST, machine.path(), steps);
        consistent(&machine).await;
        let daemon = goes_on(&machine, &["snap"]).await;
        assert_eq!(daemon.remote.list().await.unwrap(), [name("snap")]);
        assert!(files(&daemon.packs.root().join("staging")).is_empty());
        if !died {
            break;
        }
        steps += 1;
    }
    // Begun, twice "pack there" and "pack noted", three files, record, noted.
    assert_eq!(steps, 1 + 2 * 2 + 3 + 1 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_died_and_is_not_wanted_any_more_leaves_nothing() {
    const TEST: &str = "crash::an_upload_that_died_and_is_not_wanted_any_more_leaves_nothing";
    if let Some(daemon) = doomed() {
        daemon.upload(&all_of(&daemon, "snap")).await;
        return;
    }
    for step in 0..10 {
        let machine = tokio::task::spawn_blocking(paused).await.unwrap();
        assert!(dies(TEST, machine.path(), step));
        fs::remove_dir_all(machine.path().join("snapshots/snap")).unwrap();
        goes_on(&machine, &[]).await;
        let left = files(&machine.path().join("remote"));
        assert!(!left.iter().any(|file| file.starts_with("snapshots/")), "after step {step}: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_snapshot_whose_upload_died_is_the_old_or_the_new_one() {
    const TEST: &str = "crash::a_changed_snapshot_whose_upload_died_is_the_old_or_the_new_one";
    if let Some(daemon) = doomed() {
        daemon.upload(&all_of(&daemon, "snap")).await;
        return;
    }
    let mut step = 0;
    loop {
        let machine = tokio::task::spawn_blocking(paused).await.unwrap();
        drop(goes_on(&machine, &["snap"]).await);
        fs::write(machine.path().join("snapshots/snap").join(INDEX), "another").unwrap();
        fs::write(machine.path().join("snapshots/snap").join(MANIFEST), "another").unwrap();
        let died = dies(TEST, machine.path(), step);
        consistent(&machine).await;
        drop(goes_on(&machine, &["snap"]).await);
        let kept = files(&machine.path().join("remote/snapshots/snap"));
        assert_eq!(kept.len(), 4, "after step {step}: three files and the record: {kept:?}");
        if !died {
            break;
        }
        step += 1;
    }
    // Begun, three files, record, three old files gone, noted.
    assert_eq!(step, 1 + 3 + 1 + 1 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_died_is_completed() {
    const TEST: &str = "crash::a_removal_that_died_is_completed";
    if let Some(daemon) = doomed() {
        daemon.remote.forget(&name("snap"));
        assert_eq!(daemon.settled().await, Vec::<String>::new());
        return;
    }
    let mut step = 0;
    loop {
        let machine = tokio::task::spawn_blocking(paused).await.unwrap();
        drop(goes_on(&machine, &["snap"]).await);
        fs::remove_dir_all(machine.path().join("snapshots/snap")).unwrap();
        let died = dies(TEST, machine.path(), step);
        consistent(&machine).await;
        goes_on(&machine, &[]).await;
        let left = files(&machine.path().join("remote"));
        assert!(!left.iter().any(|file| file.starts_with("snapshots/")), "after step {step}: {left:?}");
        if !died {
            break;
        }
        step += 1;
    }
    assert_eq!(step, 1 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_the_remote_that_died_is_completed() {
    const TEST: &str = "crash::a_collection_of_the_remote_that_died_is_completed";
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    if let Some(daemon) = doomed() {
        bounded(daemon.remote.collect(tomorrow)).await.unwrap();
        return;
    }
    for step in 0..3 {
        let machine = tokio::task::spawn_blocking(paused).await.unwrap();
        drop(goes_on(&machine, &["snap"]).await);
        fs::remove_dir_all(machine.path().join("snapshots/snap")).unwrap();
        let daemon = goes_on(&machine, &[]).await;
        assert_eq!(dies(TEST, machine.path(), step), step < 2);
        daemon.remote.collect(tomorrow).await.unwrap();
        assert!(files(&machine.path().join("remote/packs")).is_empty());
    }
}
