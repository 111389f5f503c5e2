//! A file system that is full, for real: a small tmpfs. Mounting one takes root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::path::Path;

use dormouse_store::StoreError;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use support::{content, files, open, put};

mod support;

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_file_system_is_an_error_with_figures_and_leaves_nothing_half_written() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("passed over: mounting a tmpfs takes root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=256k")).unwrap();
    let _mounted = Mounted(dir.path());
    let packs = open(&dir.path().join("packs"));
    let small = put(&packs, &content(1, 1000));

    let staged = packs.stage().unwrap();
    let error = staged.reserve(1 << 20).unwrap_err();
    let StoreError::NoSpace { needed, available, .. } = &error else { panic!("{error}") };
    assert_eq!(needed.0, 1 << 20);
    assert!((1..256 << 10).contains(&available.0), "{available}");
    assert!(error.to_string().contains("make room"), "{error}");
    drop(staged);

    // Not even a file can be made: inodes and blocks are all taken.
    let mut fill = std::fs::File::create(dir.path().join("fill")).unwrap();
    while fill.write_all(&[1; 4096]).is_ok() {}
    let error = try_put_when_full(&packs);
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(files(packs.root()).len(), 1);
    packs.verify(&small).unwrap();

    drop(fill);
    // With room again everything goes on.
    std::fs::remove_file(dir.path().join("fill")).unwrap();
    put(&packs, &content(3, 1000));
}

fn try_put_when_full(packs: &dormouse_store::Packs) -> StoreError {
    match packs.stage() {
        Err(error) => error,
        Ok(staged) => staged.reserve(1).unwrap_err(),
    }
}
