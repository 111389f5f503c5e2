//! The store as a whole, as a user sees it: what is damaged is named, and hurts only who needs it.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dormouse_image::manifest::Manifest;
use dormouse_vm_tests::{Daemon, FreshState, block_on, pack_file, scratch};
use serde_json::{Value, json};

/// A program that nothing in a guest runs by itself, so that its blocks are in the page cache only of who reads it.
const UNUSED: &str = "/usr/bin/perl";

fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Where this block is on a disk.
fn offset_of(disk: &Path, wanted: &[u8]) -> u64 {
    let (disk, mut part, mut at) = (fs::File::open(disk).unwrap(), vec![0; 4 << 20], 0);
    loop {
        let read = disk.read_at(&mut part, at).unwrap();
        assert_ne!(read, 0, "the block is not on the disk");
        if let Some(block) = part[..read].chunks(4096).position(|block| block == wanted) {
            return at + block as u64 * 4096;
        }
        at += read as u64 / 4096 * 4096;
    }
}

async fn paused(daemon: &Daemon, does: &str) -> (String, String) {
    let id = daemon.ok(&["create", "--timeout", "2h"]).await;
    daemon.ok(&["exec", &id, "-u", "root", "--", "sh", "-c", does]).await;
    daemon.ok(&["pause", &id]).await;
    let listed: Value = serde_json::from_str(&daemon.ok(&["ls", "--json"]).await).unwrap();
    let mine = listed.as_array().unwrap().iter().find(|sandbox| sandbox["id"] == id.as_str()).unwrap();
    (id, mine["snapshot"].as_str().unwrap().to_owned())
}

async fn verify(daemon: &Daemon, what: &[&str]) -> (Option<i32>, Value) {
    let ran = daemon.cli(&[&["store", "verify", "--json"], what].concat()).await;
    (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", ran.stdout, ran.stderr)))
}

struct Parts {
    pack: PathBuf,
    dir: PathBuf,
    base: PathBuf,
    /// A block of the base disk that only one of the snapshots has in memory.
    block: u64,
    /// A block of its overlay disk that it has in memory.
    own_block: u64,
}

/// What the snapshot `mine` is made of and `other` is not; `id` runs, and has the files.
async fn parts(daemon: &Daemon, state: &Path, id: &str, mine: &str, other: &str) -> Parts {
    let dir = state.join("snapshots").join(mine);
    let manifest = Manifest::read(&dir).unwrap();
    let others = Manifest::read(&state.join("snapshots").join(other)).unwrap().memory.packs;
    let own = manifest.memory.packs.iter().find(|pack| !others.contains(pack)).unwrap();
    let base = state.join("artifacts").join(&manifest.base_disk.artifact);
    let to = scratch();
    let copy = to.path().join("perl");
    daemon.ok(&["cp", &format!("{id}:{UNUSED}"), copy.to_str().unwrap()]).await;
    let wanted = fs::read(&copy).unwrap()[100 * 4096..101 * 4096].to_vec();
    let line = b"a line of a file that stays in the page cache\n";
    let own_line: Vec<u8> = line.iter().copied().cycle().take(4096).collect();
    let own_block = offset_of(&dir.join("overlay.ext4"), &own_line);
    Parts { pack: pack_file(state, &own.id), block: offset_of(&base, &wanted), dir, base, own_block }
}

#[test]
fn every_flipped_bit_is_named_by_verify_and_hurts_only_who_needs_it() {
    block_on(async {
        let place = scratch();
        let fresh = FreshState::copied_to(&place.path().join("state")).await;
        let state = fresh.path();
        let daemon = Daemon::start(state).await;
        let reads = format!(
            "cat {UNUSED} > /dev/null; yes 'a line of a file that stays in the page cache' | head -c 4M > /root/cached; \
             sync; echo remembered > /dev/shm/note"
        );
        let (id, with) = paused(&daemon, &reads).await;
        let (other, without) = paused(&daemon, "echo other > /dev/shm/note").await;
        // What is looked for is asked of the guest itself: of a copy, so that the snapshot stays.
        let copy = daemon.ok(&["fork", "--timeout", "2h", &id]).await;
        let parts = parts(&daemon, state, &copy, &with, &without).await;
        daemon.ok(&["rm", &copy]).await;
        // The next daemon has no unpacked RAM any more: a resume reads from packs and disks.
        daemon.kill_dash_nine().await;
        let daemon = Daemon::start(state).await;

        let (code, report) = verify(&daemon, &[]).await;
        assert_eq!((code, report["damaged"].as_array().unwrap().len()), (Some(0), 0), "{report}");
        assert_eq!(report["good"].as_array().unwrap().len(), 3, "the template's too: {report}");

        let pack_len = fs::metadata(&parts.pack).unwrap().len();
        let disk_index = fs::read_dir(state.join("disk-indexes")).unwrap().next().unwrap().unwrap().path();
        for (kind, path, at, hurts) in [
            ("pack", &parts.pack, pack_len / 2, true),
            ("pack", &parts.pack, 3, true),
            ("pack", &parts.pack, pack_len - 20, true),
            ("index", &parts.dir.join("memory.idx"), 200, true),
            ("manifest", &parts.dir.join("manifest.json"), 300, true),
            ("device_state", &parts.dir.join("device.state.zst"), 100, true),
            ("overlay", &parts.dir.join("overlay.ext4"), parts.own_block + 7, true),
            ("base_disk", &parts.base, parts.block + 7, true),
            ("disk_index", &disk_index, 5000, false),
        ] {
            flip(path, at);
            let (code, report) = verify(&daemon, &[&with, &without]).await;
            let found = report["damaged"].as_array().unwrap();
            assert_eq!((code, found.len()), (Some(1), 1), "{kind}: {report}");
            assert_eq!(
                (&found[0]["kind"], state.join(found[0]["path"].as_str().unwrap())),
                (&json!(kind), path.clone())
            );
            let hurt = if hurts { json!([with]) } else { json!([]) };
            assert_eq!((&found[0]["snapshots"], &report["hurt"]), (&hurt, &hurt), "{report}");
            assert!(report["good"].as_array().unwrap().contains(&json!(without)), "{report}");
            if kind == "base_disk" {
                let refused = daemon.cli(&["resume", &id]).await;
                assert_ne!(refused.code, Some(0), "{}", refused.stderr);
                assert!(refused.stderr.contains(path.to_str().unwrap()) && refused.stderr.contains("was changed"));
                assert_eq!(daemon.phase(&id).await, "paused");
                daemon.ok(&["resume", &other]).await;
                assert_eq!(daemon.ok(&["exec", &other, "--", "cat", "/dev/shm/note"]).await, "other");
            }
            flip(path, at);
        }
        daemon.ok(&["resume", &id]).await;
        assert_eq!(daemon.ok(&["exec", &id, "--", "cat", "/dev/shm/note"]).await, "remembered");

        // Both run: what they were started from is still checked, and nothing is collected that they need.
        let (code, report) = verify(&daemon, &[]).await;
        assert_eq!(code, Some(0), "{report}");
        let would = daemon.ok(&["store", "gc", "--dry-run"]).await;
        assert!(would.starts_with("would free 0 B"), "{would}");
        let stats: Value = serde_json::from_str(&daemon.ok(&["store", "stats", "--json"]).await).unwrap();
        assert_eq!(stats["snapshots"], 3, "{stats}");
        let ram: u64 = stats["ramBy"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
        assert_eq!(ram, stats["ram"].as_u64().unwrap(), "every page is accounted for: {stats}");
        println!("{}", daemon.ok(&["store", "stats"]).await);
        daemon.ok(&["rm", "--all"]).await;
    });
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn stats(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.ok(&["store", "stats", "--json"]).await).unwrap()
}

/// Statistics once every snapshot was looked at.
async fn settled(daemon: &Daemon) -> Value {
    for _ in 0..600 {
        let now = stats(daemon).await;
        if now["compactionsWaiting"] == 0 {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never settled: {}", stats(daemon).await);
}

/// A copy of a state folder that no daemon works on: files are replaced or removed in it, and never written to.
fn copy_of(state: &Path, number: u64) -> PathBuf {
    let copy = state.with_file_name(format!("state-compacting-{number}"));
    let _ = fs::remove_dir_all(&copy);
    let linked = std::process::Command::new("cp").arg("-al").arg(state).arg(&copy).status().unwrap();
    assert!(linked.success());
    copy
}

/// Pauses the sandbox and kills the daemon before it came to compact that.
async fn leave_something_to_compact(state: &Path, id: &str) {
    for cycle in 0..8 {
        let daemon = Daemon::start(state).await;
        daemon.ok(&["resume", id]).await;
        let writes = format!("head -c 8M /dev/urandom > /dev/shm/more{cycle}");
        daemon.ok(&["exec", id, "--", "sh", "-c", &writes]).await;
        daemon.ok(&["pause", id]).await;
        daemon.kill_dash_nine().await;
        let copy = copy_of(state, 0);
        let daemon = Daemon::start(&copy).await;
        let compacted = settled(&daemon).await["compacted"].as_u64().unwrap();
        daemon.kill_dash_nine().await;
        fs::remove_dir_all(&copy).unwrap();
        if compacted > 0 {
            return;
        }
    }
    panic!("there never was anything to compact");
}

#[test]
fn a_daemon_killed_while_it_compacts_and_collects_loses_nothing_and_leaves_nothing() {
    block_on(async {
        let fresh = FreshState::new("compacting").await;
        let state = fresh.path();
        let daemon = Daemon::start(state).await;
        let id = daemon.ok(&["create", "--timeout", "2h"]).await;
        for cycle in 0..6 {
            let writes = format!("head -c 2M /dev/urandom > /dev/shm/{cycle}");
            daemon.ok(&["exec", &id, "--", "sh", "-c", &writes]).await;
            daemon.ok(&["pause", &id]).await;
            daemon.ok(&["resume", &id]).await;
        }
        let sums = daemon.ok(&["exec", &id, "--", "sh", "-c", "sha256sum /dev/shm/?"]).await;
        daemon.ok(&["pause", &id]).await;
        let few = settled(&daemon).await;
        assert!(few["packsPerSnapshotMax"].as_u64().unwrap() <= 5, "{few}");
        assert!(few["compacted"].as_u64().unwrap() > 0 && few["compactionsFailed"] == 0, "{few}");
        assert!(few["needed"].as_array().unwrap().iter().all(|row| row["by"] != 0), "{few}");
        daemon.kill_dash_nine().await;
        leave_something_to_compact(state, &id).await;

        // From before anything was begun to after all was done, if the machine is as quick as it should be.
        for after_ms in [40, 80, 120, 160, 240, 400, 1000] {
            let copy = copy_of(state, after_ms);
            let doomed = Daemon::start_without_waiting(&copy);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            doomed.kill_dash_nine().await;

            let daemon = Daemon::start(&copy).await;
            let found = settled(&daemon).await;
            println!("killed after {after_ms} ms: {} compacted again, {} packs", found["compacted"], found["packs"]);
            assert!(found["packsPerSnapshotMax"].as_u64().unwrap() <= 5, "{found}");
            assert!(found["needed"].as_array().unwrap().iter().all(|row| row["by"] != 0), "{found}");
            let (code, report) = verify(&daemon, &[]).await;
            assert_eq!((code, report["good"].as_array().unwrap().len()), (Some(0), 2), "{report}");
            assert!(daemon.ok(&["store", "gc"]).await.starts_with("freed 0 B"));
            for snapshot in names(&copy.join("snapshots")) {
                assert_eq!(names(&copy.join("snapshots").join(snapshot)).len(), 4);
            }
            for rest in ["staging", "packs/staging"] {
                assert_eq!(names(&copy.join(rest)), Vec::<String>::new(), "{rest}");
            }
            if after_ms == 120 {
                daemon.ok(&["resume", &id]).await;
                assert_eq!(daemon.ok(&["exec", &id, "--", "sh", "-c", "sha256sum /dev/shm/[0-5]"]).await, sums);
            }
            daemon.ok(&["rm", "--all"]).await;
            daemon.kill_dash_nine().await;
            fs::remove_dir_all(&copy).unwrap();
        }
    });
}
