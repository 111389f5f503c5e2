//! The daemon and its command line, as a user runs them: crashes, second daemons, the whole round.

use std::fs;
use std::time::Duration;

use dormouse_vm_tests::{Daemon, FreshState, block_on, qemus_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn a_killed_daemon_loses_no_sandbox() {
    block_on(async {
        let fresh = FreshState::new("crash").await;
        let daemon = Daemon::start(fresh.path()).await;
        let running = daemon.ok(&["create"]).await;
        let paused = daemon.ok(&["create"]).await;
        daemon.ok(&["exec", &running, "--", "sh", "-c", "echo one > /dev/shm/note"]).await;
        daemon.ok(&["exec", &paused, "--", "sh", "-c", "echo two > /dev/shm/note"]).await;
        daemon.ok(&["pause", &paused]).await;
        daemon.kill_dash_nine().await;
        assert_eq!(qemus_of(fresh.path()).len(), 1, "the running VM goes on without a daemon");

        let daemon = Daemon::start(fresh.path()).await;
        assert_eq!(daemon.phase(&running).await, "running");
        assert_eq!(daemon.phase(&paused).await, "paused");
        assert_eq!(daemon.ok(&["exec", &running, "--", "cat", "/dev/shm/note"]).await, "one");
        daemon.ok(&["resume", &paused]).await;
        assert_eq!(daemon.ok(&["exec", &paused, "--", "cat", "/dev/shm/note"]).await, "two");
        daemon.ok(&["pause", &running]).await;
        daemon.ok(&["rm", &running, &paused]).await;
        assert_eq!(qemus_of(fresh.path()), Vec::<i32>::new());
    });
}

#[test]
fn a_daemon_killed_while_it_pauses_leaves_the_sandbox_running_or_paused() {
    block_on(async {
        let fresh = FreshState::new("crash-pausing").await;
        // From before anything was written to after the snapshot was published.
        for after_ms in [5, 60, 150, 300, 600, 1500] {
            let daemon = Daemon::start(fresh.path()).await;
            let id = daemon.ok(&["create"]).await;
            daemon.ok(&["exec", &id, "--", "sh", "-c", "head -c 20M /dev/urandom > /dev/shm/note"]).await;
            let sum = daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await;
            let mut pausing = daemon.spawn(&["pause", &id]);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            daemon.kill_dash_nine().await;
            let _ = pausing.wait().await;

            let daemon = Daemon::start(fresh.path()).await;
            let found = daemon.phase(&id).await;
            println!("killed {after_ms} ms into a pause: {found}");
            if found == "paused" {
                daemon.ok(&["resume", &id]).await;
            } else {
                assert_eq!(found, "running");
            }
            assert_eq!(daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await, sum);
            assert_eq!(fs::read_dir(fresh.path().join("staging")).unwrap().count(), 0);
            daemon.ok(&["rm", &id]).await;
            assert_eq!(fs::read_dir(fresh.path().join("snapshots")).unwrap().count(), 1, "only the template's");
            assert_eq!(qemus_of(fresh.path()), Vec::<i32>::new());
        }
    });
}

#[test]
fn a_vm_that_dies_without_a_daemon_is_reported_lost_with_the_reason() {
    block_on(async {
        let fresh = FreshState::new("lost").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create"]).await;
        daemon.kill_dash_nine().await;
        for pid in qemus_of(fresh.path()) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        let daemon = Daemon::start(fresh.path()).await;
        let listed = daemon.ok(&["ls"]).await;
        assert!(listed.contains("lost"), "{listed}");
        let refused = daemon.cli(&["resume", &id]).await;
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.contains("no snapshot"), "{}", refused.stderr);
        daemon.ok(&["rm", &id]).await;
    });
}

#[test]
fn a_second_daemon_on_the_same_state_folder_is_refused() {
    block_on(async {
        let fresh = FreshState::new("second").await;
        let daemon = Daemon::start(fresh.path()).await;
        let state = fresh.path().to_string_lossy().into_owned();
        let second = daemon.cli(&["serve", "--listen", "127.0.0.1:0", "--state", &state]).await;
        assert_ne!(second.code, Some(0));
        assert!(second.stderr.contains("another dormouse daemon"), "{}", second.stderr);
        daemon.ok(&["ls"]).await;
    });
}

#[test]
fn the_command_line_does_the_whole_round() {
    block_on(async {
        let fresh = FreshState::new("cli").await;
        let daemon = Daemon::start(fresh.path()).await;

        let ran = daemon.cli(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "out\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains("err"));

        let id = daemon.ok(&["create"]).await;
        let local = tempfile::tempdir().unwrap();
        let (there, back) = (local.path().join("there"), local.path().join("back"));
        fs::write(&there, b"carried ".repeat(100_000)).unwrap();
        daemon.ok(&["cp", there.to_str().unwrap(), &format!("{id}:/home/user/file")]).await;
        daemon.ok(&["cp", &format!("{id}:/home/user/file"), back.to_str().unwrap()]).await;
        assert!(fs::read(&there).unwrap() == fs::read(&back).unwrap());
        assert_eq!(daemon.ok(&["exec", &id, "--", "id", "-un"]).await, "user");
        assert_eq!(daemon.ok(&["exec", &id, "--", "sudo", "id", "-un"]).await, "root");

        let waste = "head -c 30M /dev/urandom > /dev/shm/waste; rm /dev/shm/waste";
        daemon.ok(&["exec", &id, "--", "sh", "-c", waste]).await;
        daemon.ok(&["pause", &id, "--cache", "drop", "--measure"]).await;
        let seen: Value = serde_json::from_str(&daemon.ok(&["snapshot", "inspect", &id, "--json"]).await).unwrap();
        let sum = |keys: [&str; 4]| keys.iter().map(|k| seen[k].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            sum(["free", "zero", "onDisks", "kept"]),
            seen["ram"].as_u64().unwrap(),
            "every byte is accounted for: {seen}"
        );
        let dropped_only = seen["comparison"]["nonZeroAfter"].as_u64().unwrap();
        assert!(seen["kept"].as_u64().unwrap() + (25 << 20) < dropped_only, "what was freed is left out: {seen}");
        let (svg, png) = (local.path().join("ram.svg"), local.path().join("ram.png"));
        daemon.ok(&["snapshot", "inspect", &id, "--svg", svg.to_str().unwrap(), "--png", png.to_str().unwrap()]).await;
        assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));
        assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"));

        let forks: Vec<String> = daemon.ok(&["fork", "-n", "2", &id]).await.lines().map(str::to_owned).collect();
        assert_eq!(forks.len(), 2);
        daemon.ok(&["resume", &id]).await;
        assert_eq!(
            daemon.ok(&["exec", &id, "--", "sha256sum", "/home/user/file"]).await,
            daemon.ok(&["exec", &forks[0], "--", "sha256sum", "/home/user/file"]).await
        );
        daemon.ok(&["rm", "--all"]).await;
        assert_eq!(daemon.ok(&["ls", "--json"]).await, "[]");

        let looked: Value = serde_json::from_str(&daemon.ok(&["doctor", "--json"]).await).unwrap();
        let verdict =
            |name: &str| looked.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()["verdict"].clone();
        for name in ["QEMU", "mmdebstrap", "mke2fs", "agent", "daemon"] {
            assert_eq!(verdict(name), "ok", "{name}: {looked}");
        }
    });
}
