//! A process that dies at any step of taking in, collecting or evicting packs. Each test runs itself again as a child
//! that aborts at the n-th step, then looks at what that left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dormouse_guest_mem::Bytes;
use dormouse_store::gc::References;
use dormouse_store::{Packs, Steps};
use support::{Hashed, content, files, name, open, put, read};

mod support;

const DIR: &str = "STORE_CRASH_DIR";
const STEP: &str = "STORE_CRASH_STEP";

/// In the child: a folder of packs that ends the process at the step that the parent asked for.
fn doomed() -> Option<Packs> {
    let dir = PathBuf::from(std::env::var_os(DIR)?);
    let last: u64 = std::env::var(STEP).unwrap().parse().unwrap();
    let seen = AtomicU64::new(0);
    let steps = Steps::telling(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == last {
            std::process::abort();
        }
    });
    Some(Packs::open_with(&dir, Arc::new(Hashed), steps).unwrap())
}

/// Runs the test `test` in a child that dies at step `step`. Whether it came to that.
fn dies(test: &str, dir: &Path, step: u64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(DIR, dir).env(STEP, step.to_string());
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let aborted = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
    assert!(aborted || status.success(), "the child failed by itself: {status}");
    aborted
}

#[test]
fn a_put_leaves_the_whole_pack_or_nothing() {
    if let Some(packs) = doomed() {
        put(&packs, &content(7, 3000));
        return;
    }
    let mut steps = 0;
    let mut there = Vec::new();
    loop {
        let dir = tempfile::tempdir().unwrap();
        let before = put(&open(dir.path()), b"before");
        let died = dies("a_put_leaves_the_whole_pack_or_nothing", dir.path(), steps);
        let packs = open(dir.path());
        assert!(files(dir.path()).iter().all(|f| f.ends_with(".pack")), "nothing half-written stays");
        for pack in packs.list().unwrap() {
            packs.verify(&pack.id).unwrap();
        }
        assert_eq!(read(&packs, &before), b"before");
        there.push(packs.list().unwrap().len() == 2);
        // It goes on as if nothing had been.
        assert_eq!(read(&packs, &put(&packs, &content(7, 3000))), content(7, 3000));
        if !died {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 6, "every step was died at");
    assert_eq!(there, [false, false, false, false, true, true, true]);
}

#[test]
fn a_collection_that_dies_is_completed_by_the_next() {
    let keep = |packs: &Packs| {
        let kept = [put(packs, b"kept"), put(packs, b"kept too")];
        packs.set_references(References::from_iter([(name("s"), kept.into())]));
    };
    if let Some(packs) = doomed() {
        keep(&packs);
        packs.collect().unwrap();
        return;
    }
    // Taking in "kept" twice are twelve steps of the child.
    let mut step = 12;
    loop {
        let dir = tempfile::tempdir().unwrap();
        for seed in 0..3 {
            put(&open(dir.path()), &content(seed, 100));
        }
        let died = dies("a_collection_that_dies_is_completed_by_the_next", dir.path(), step);
        let packs = open(dir.path());
        let left = packs.list().unwrap().len() as u64;
        assert_eq!(left, if died { 2 + 3 - (step - 12 + 1) } else { 2 });
        keep(&packs);
        packs.collect().unwrap();
        assert_eq!(packs.list().unwrap().len(), 2);
        if !died {
            break;
        }
        step += 1;
    }
    assert_eq!(step, 12 + 3);
}

#[test]
fn an_eviction_that_dies_has_removed_only_what_is_elsewhere() {
    if let Some(packs) = doomed() {
        let mine = put(&packs, b"not uploaded");
        packs.evict(Bytes(0), |id| *id != mine).unwrap();
        return;
    }
    for step in 6..9 {
        let dir = tempfile::tempdir().unwrap();
        for seed in 0..3 {
            put(&open(dir.path()), &content(seed, 100));
        }
        assert!(dies("an_eviction_that_dies_has_removed_only_what_is_elsewhere", dir.path(), step));
        let packs = open(dir.path());
        assert_eq!(packs.list().unwrap().len() as u64, 1 + 3 - (step - 6 + 1));
        assert!(packs.list().unwrap().iter().any(|pack| read(&packs, &pack.id) == b"not uploaded"));
    }
}
