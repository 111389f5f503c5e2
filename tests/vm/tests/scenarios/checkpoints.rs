//! Snapshots of sandboxes that go on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lint settings for tests reach only test functions, not what they share"
)]

use std::fs;
use std::time::{Duration, Instant};

use dormouse_lifecycle::{Error, NewSandbox, PauseOptions, Phase, SandboxInfo, SnapshotInfo};
use dormouse_vm_tests::{FreshState, Guest, block_on, host, new_sandbox, sandbox, state_dir};

const AN_HOUR: Duration = Duration::from_secs(3600);

async fn start_from(snapshot: &str) -> SandboxInfo {
    let new = NewSandbox { template: snapshot.parse().unwrap(), ..new_sandbox() };
    host().await.create(new).await.unwrap()
}

fn remains_of(snapshot: &SnapshotInfo) -> bool {
    state_dir().join("snapshots").join(snapshot.id.as_str()).exists()
        || state_dir().join("kept").join(format!("{}.json", snapshot.id)).exists()
}

#[test]
fn a_snapshot_has_what_the_sandbox_had_and_the_sandbox_goes_on() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("head -c 30M /dev/urandom > /dev/shm/memory; head -c 10M /dev/urandom > /root/disk").await;
        guest.sh("setsid bash -c 'n=0; while :; do n=$((n+1)); echo $n > /run/n.new; mv /run/n.new /run/n; sleep 0.05; done' >/dev/null 2>&1 & sleep 1").await;
        let sums = "sha256sum /dev/shm/memory /root/disk";
        let before = guest.sh(sums).await;

        let snapshot = host.checkpoint(&info.id, Some("ready".parse().unwrap())).await.unwrap();
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        let counted: u64 = guest.sh("cat /run/n; sleep 1").await.parse().unwrap();
        let later: u64 = guest.sh("cat /run/n").await.parse().unwrap();
        assert!(later > counted, "its processes go on");
        guest.sh("head -c 30M /dev/urandom > /dev/shm/memory; rm /root/disk; echo new > /root/new; sync").await;

        let listed = host.snapshots();
        assert_eq!(listed.iter().find(|s| s.id == snapshot.id).unwrap().name.as_ref().unwrap().as_str(), "ready");
        let copy = start_from(snapshot.id.as_str()).await;
        host.kill(&info.id).await.unwrap();
        let again = start_from("ready").await;
        for started in [&copy, &again] {
            let guest = Guest::of(host, &started.id).await;
            assert_eq!(guest.sh(sums).await, before, "memory and disk are those of the snapshot");
            assert_eq!(guest.run("cat /root/new").await.code, 1, "what came later is not there");
            let n: u64 = guest.sh("cat /run/n; sleep 1").await.parse().unwrap();
            assert!(guest.sh("cat /run/n").await.parse::<u64>().unwrap() > n, "what ran in the snapshot runs on");
            assert_eq!(started.template.as_str(), "base");
        }
        host.verify(&snapshot.id).await.unwrap();
        host.remove_snapshot("ready").await.unwrap();
        assert!(!remains_of(&snapshot));
        assert!(matches!(host.remove_snapshot("ready").await, Err(Error::NoKeptSnapshot(_))));
        // A sandbox does not need the snapshot that it was started from.
        host.pause(&copy.id, PauseOptions::default()).await.unwrap();
        host.connect(&copy.id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(host, &copy.id).await.sh(sums).await, before);
        for id in [&copy.id, &again.id] {
            host.kill(id).await.unwrap();
        }
    });
}

#[test]
fn only_a_running_sandbox_can_be_taken_a_snapshot_of_and_no_template_loses_its_name() {
    block_on(async {
        let (info, _guest) = sandbox().await;
        let host = host().await;
        let taken = host.checkpoint(&info.id, Some("base".parse().unwrap())).await;
        assert!(matches!(taken, Err(Error::NameTaken(_))), "{taken:?}");
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        let paused = host.checkpoint(&info.id, None).await;
        assert!(matches!(paused, Err(Error::WrongPhase { .. })), "{paused:?}");
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_fork_of_a_running_sandbox_leaves_it_running_and_nothing_else() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("echo 41 > /dev/shm/counter; echo before > /root/note").await;
        let before = fs::read_dir(state_dir().join("snapshots")).unwrap().count();
        let forks = host.fork(&info.id, 2, AN_HOUR).await.unwrap();
        let forks: Vec<_> = forks.into_iter().map(Result::unwrap).collect();
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        guest.sh("echo 42 > /dev/shm/counter").await;
        for fork in &forks {
            let guest = Guest::of(host, &fork.id).await;
            assert_eq!(guest.sh("cat /dev/shm/counter /root/note").await, "41\nbefore");
        }
        let gone = async {
            while fs::read_dir(state_dir().join("snapshots")).unwrap().count() > before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the snapshot that was made for it stays");
        for id in [&forks[0].id, &forks[1].id, &info.id] {
            host.kill(id).await.unwrap();
        }
    });
}

#[test]
fn a_snapshot_is_there_after_a_restart_and_whose_making_was_cut_off_is_not() {
    block_on(async {
        use dormouse_vm_tests::Daemon;
        let fresh = FreshState::new("kept").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create"]).await;
        daemon.ok(&["exec", &id, "--", "sh", "-c", "echo one > /dev/shm/note"]).await;
        let snapshot = daemon.ok(&["snapshot", "create", "--name", "one"]).await;
        // Cut off at points from before the stop to after the end.
        for after_ms in [100, 400, 800, 1600] {
            let mut making = daemon.spawn(&["snapshot", "create", &id]);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            making.start_kill().unwrap();
            making.wait().await.unwrap();
        }
        daemon.kill_dash_nine().await;

        let daemon = Daemon::start(fresh.path()).await;
        assert_eq!(daemon.phase(&id).await, "running");
        assert_eq!(daemon.ok(&["exec", &id, "--", "cat", "/dev/shm/note"]).await, "one");
        let listed = daemon.ok(&["snapshot", "ls", "--json"]).await;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let ids: Vec<_> = listed.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
        assert!(ids.contains(&snapshot.as_str()), "{listed}");
        // Which of the others were finished before their caller went is not known; none is half there.
        for id in &ids {
            daemon.ok(&["snapshot", "inspect", id]).await;
        }
        assert_eq!(fs::read_dir(fresh.path().join("snapshots")).unwrap().count(), ids.len() + 1, "and the template's");
        let copy = daemon.ok(&["create", "-t", "one"]).await;
        assert_eq!(daemon.ok(&["exec", &copy, "--", "cat", "/dev/shm/note"]).await, "one");
        daemon.ok(&["snapshot", "inspect", "one"]).await;
        for id in ids {
            daemon.ok(&["snapshot", "rm", &id[..12]]).await;
        }
        assert_eq!(daemon.ok(&["snapshot", "ls", "--json"]).await, "[]");
        daemon.ok(&["rm", "--all"]).await;
    });
}

#[test]
fn the_vcpus_stand_still_only_for_the_copy() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("head -c 400M /dev/urandom > /dev/shm/much").await;
        let started = Instant::now();
        let snapshot = host.checkpoint(&info.id, None).await.unwrap();
        let whole = started.elapsed();
        let seen = host.inspect(&snapshot.id).await.unwrap();
        let step = |name: &str| {
            seen.steps.iter().find(|s| s.name == name).map(|s| Duration::from_micros(s.micros)).expect(name)
        };
        for s in &seen.steps {
            println!("{:>10.1} ms {}", s.micros as f64 / 1000.0, s.name);
        }
        let stillness = seen.stillness.unwrap();
        println!("{stillness:?}");
        assert!(stillness.ahead.0 > 400 << 20, "what the guest wrote before is copied while it runs");
        assert!(stillness.copied.0 < stillness.ahead.0 / 2);
        let used = seen.ram.0 - seen.free.0;
        let per_gib = step("stopped in all").as_secs_f64() * 1000.0 / (used as f64 / (1u64 << 30) as f64);
        println!("{} used, {per_gib:.1} ms per GiB of them, {whole:?} in all", dormouse_guest_mem::Bytes(used));
        assert!(step("stopped in all") < whole / 2, "most of the work is done while the guest runs");
        host.remove_snapshot(snapshot.id.as_str()).await.unwrap();
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn what_a_guest_has_freed_is_not_copied_where_that_is_much() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("head -c 20M /dev/urandom > /dev/shm/memory").await;
        let sum = guest.sh("sha256sum /dev/shm/memory").await;
        guest.sh("python3 -c 'bytearray(b\"x\") * (700 << 20)'").await;
        let snapshot = host.checkpoint(&info.id, None).await.unwrap();
        host.kill(&info.id).await.unwrap();
        let seen = host.inspect(&snapshot.id).await.unwrap();
        let stillness = seen.stillness.unwrap();
        println!("{stillness:?}");
        assert!(stillness.copied.0 + stillness.ahead.0 < 400 << 20);
        host.verify(&snapshot.id).await.unwrap();
        let copy = start_from(snapshot.id.as_str()).await;
        assert_eq!(Guest::of(host, &copy.id).await.sh("sha256sum /dev/shm/memory").await, sum);
        host.kill(&copy.id).await.unwrap();
        host.remove_snapshot(snapshot.id.as_str()).await.unwrap();
    });
}

/// Writes its round's number to every page of its memory, round after round, and ends when a page has not that of the last round.
const ROUNDS: &str = r#"
import mmap, os, struct
pages, number = 8192, 0
memory = mmap.mmap(-1, pages * 4096)
while True:
    number += 1
    for page in range(pages):
        at = page * 4096 + page * 64 % 4032
        found, = struct.unpack_from("<I", memory, at)
        if found != number - 1:
            open("/run/stale", "w").write(f"page {page} has {found} in round {number}")
            raise SystemExit(1)
        struct.pack_into("<I", memory, at, number)
    open("/run/round.new", "w").write(str(number))
    os.rename("/run/round.new", "/run/round")
"#;

/// Waits until it has been through all of its memory once more.
async fn one_more_round(guest: &Guest) {
    let wait =
        "n=$(cat /run/round); while [ $(cat /run/round) -lt $((n + 2)) ] && [ ! -e /run/stale ]; do sleep 0.1; done";
    guest.sh(wait).await;
    assert_eq!(guest.run("cat /run/stale").await.code, 1, "{}", guest.sh("cat /run/stale").await);
}

#[test]
fn a_guest_that_writes_all_the_time_has_in_its_snapshot_what_it_had_when_it_stood_still() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh(&format!("cat > /run/rounds.py << 'END'\n{ROUNDS}\nEND")).await;
        guest.sh("setsid python3 /run/rounds.py >/dev/null 2>&1 & while [ ! -e /run/round ]; do sleep 0.1; done").await;
        for _ in 0..2 {
            let snapshot = host.checkpoint(&info.id, None).await.unwrap();
            let stillness = host.inspect(&snapshot.id).await.unwrap().stillness.unwrap();
            println!("{stillness:?}");
            assert!(stillness.ahead.0 > 0 && stillness.copied.0 > 0, "some was copied ahead, some was written later");
            let copy = start_from(snapshot.id.as_str()).await;
            one_more_round(&Guest::of(host, &copy.id).await).await;
            host.verify(&snapshot.id).await.unwrap();
            host.kill(&copy.id).await.unwrap();
            host.remove_snapshot(snapshot.id.as_str()).await.unwrap();
        }
        one_more_round(&guest).await;
        host.kill(&info.id).await.unwrap();
    });
}
