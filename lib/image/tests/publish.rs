//! A snapshot folder appears complete or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dormouse_image::publish::{PREFIX, PublishError, Staging};

fn names(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_published_folder_has_everything_and_the_staging_folder_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::create(dir.path(), "s1").unwrap();
    std::fs::create_dir(staging.path().join("sub")).unwrap();
    std::fs::write(staging.path().join("sub/file"), b"content").unwrap();
    let target = dir.path().join("s1");
    staging.publish(&target).unwrap();
    assert_eq!(std::fs::read(target.join("sub/file")).unwrap(), b"content");
    assert_eq!(names(dir.path()), [target]);
}

#[test]
fn a_dropped_staging_folder_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::create(dir.path(), "s1").unwrap();
    std::fs::write(staging.path().join("file"), b"content").unwrap();
    drop(staging);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_existing_target_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("s1");
    std::fs::create_dir(&target).unwrap();
    let staging = Staging::create(dir.path(), "s1").unwrap();
    std::fs::write(staging.path().join("file"), b"new").unwrap();
    assert!(matches!(staging.publish(&target), Err(PublishError::Exists { .. })));
    assert!(names(&target).is_empty());
    assert_eq!(names(dir.path()), [target]);
}

#[test]
fn a_target_on_another_file_system_is_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let staging = Staging::create(dir.path(), "s1").unwrap();
    let error = staging.publish(&other.path().join("s1")).unwrap_err();
    assert!(matches!(error, PublishError::OtherFileSystem { .. }), "{error}");
    assert!(names(dir.path()).is_empty() && names(other.path()).is_empty());
}

#[test]
fn names_that_would_leave_the_parent_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "a/b", "../x", "a\0b", &"a".repeat(201)] {
        assert!(matches!(Staging::create(dir.path(), name), Err(PublishError::BadName { .. })), "{name:?}");
    }
}

/// Runs twice: as the test, and as the process that is killed in the middle of a pause.
#[test]
fn a_sweep_removes_what_a_killed_process_left_and_nothing_that_is_alive() {
    if let Some(parent) = std::env::var_os("DORMOUSE_TEST_STAGE_IN") {
        let staging = Staging::create(Path::new(&parent), "killed").unwrap();
        std::fs::write(staging.path().join("memory.img"), b"half").unwrap();
        println!("\nstaged");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("published")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_sweep_removes_what_a_killed_process_left_and_nothing_that_is_alive", "--nocapture"])
        .env("DORMOUSE_TEST_STAGE_IN", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let staged = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap() == "staged");
    let while_alive = Staging::sweep(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(staged);
    assert!(while_alive.unwrap().is_empty(), "a live staging folder was swept away");
    assert_eq!(names(dir.path()).len(), 2, "SIGKILL leaves the folder");
    assert_eq!(Staging::sweep(dir.path()).unwrap(), [format!("{PREFIX}killed")]);
    assert_eq!(names(dir.path()), [dir.path().join("published")]);
}

#[test]
fn a_leftover_is_told_from_a_folder_that_is_being_made_or_filled() {
    let dir = tempfile::tempdir().unwrap();
    let live = Staging::create(dir.path(), "live").unwrap();
    std::fs::write(live.path().join("a"), "a").unwrap();
    // Made by somebody who did not come to lock it yet.
    std::fs::create_dir(dir.path().join(".staging-new")).unwrap();
    let left = dir.path().join(".staging-left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("a"), [7; 5000]).unwrap();
    for remove in [false, true] {
        let found = Staging::leftovers(dir.path(), remove).unwrap();
        let [(name, len)] = &found[..] else { panic!("{found:?}") };
        assert!(name == ".staging-left" && len.0 >= 5000, "{found:?}");
    }
    assert!(!left.exists() && dir.path().join(".staging-new").exists() && live.path().join("a").exists());
}
