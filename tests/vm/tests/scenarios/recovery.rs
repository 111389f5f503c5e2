//! What a daemon that died left behind, and what the next one makes of it (docs/formats/state-folder.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dormouse_vm_tests::{Daemon, FreshState, block_on, qemus_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn record_file(state: &Path, id: &str) -> PathBuf {
    state.join("sandboxes").join(format!("{id}.json"))
}

fn record(state: &Path, id: &str) -> Value {
    serde_json::from_slice(&fs::read(record_file(state, id)).unwrap()).unwrap()
}

/// Puts a sandbox into the phase in which another moment of the crash would have left it.
fn set_phase(state: &Path, id: &str, phase: Value) {
    let mut record = record(state, id);
    record["phase"] = phase;
    fs::write(record_file(state, id), record.to_string()).unwrap();
}

fn names(dir: PathBuf) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn running(daemon: &Daemon, note: &str) -> String {
    let id = daemon.ok(&["create", "--timeout", "1h"]).await;
    daemon.ok(&["exec", &id, "--", "sh", "-c", &format!("echo {note} > /dev/shm/note")]).await;
    id
}

async fn note(daemon: &Daemon, id: &str) -> String {
    daemon.ok(&["exec", id, "--", "cat", "/dev/shm/note"]).await
}

#[test]
fn every_phase_that_a_crash_leaves_becomes_running_paused_lost_or_gone() {
    block_on(async {
        let fresh = FreshState::new("phases").await;
        let state = fresh.path();
        let daemon = Daemon::start(state).await;
        let original = running(&daemon, "remembered").await;
        daemon.ok(&["pause", &original]).await;
        let copies = daemon.ok(&["fork", "-n", "6", "--timeout", "1h", &original]).await;
        let copies: Vec<&str> = copies.lines().collect();
        let [creating, removing, published, resuming, without, paused] = copies[..] else { panic!("{copies:?}") };
        for id in [published, resuming, without, paused] {
            daemon.ok(&["pause", id]).await;
        }
        daemon.kill_dash_nine().await;
        assert_eq!(qemus_of(state).len(), 2);

        // Published, but the record did not get to say so.
        let pending = record(state, published)["snapshot"].clone();
        let mut half_way = record(state, published);
        half_way["phase"] = json!({"pausing": {"pending": pending}});
        half_way["snapshot"] = Value::Null;
        fs::write(record_file(state, published), half_way.to_string()).unwrap();
        set_phase(state, creating, json!("creating"));
        set_phase(state, removing, json!("removing"));
        set_phase(state, resuming, json!("resuming"));
        fs::create_dir(state.join("run").join(resuming)).unwrap();
        fs::write(state.join("run").join(resuming).join("base.ram"), "half").unwrap();
        let lost = record(state, without)["snapshot"].as_str().unwrap().to_owned();
        fs::remove_file(state.join("snapshots").join(&lost).join("manifest.json")).unwrap();
        // What nobody names any more.
        fs::create_dir(state.join("run/build-other")).unwrap();
        fs::create_dir(state.join("snapshots/s00000000000000000000")).unwrap();
        fs::write(state.join("sandboxes/half.half"), "{").unwrap();
        fs::write(state.join("staging/half"), "x").unwrap();
        fs::write(state.join("cache/half.ram"), "x").unwrap();

        let daemon = Daemon::start(state).await;
        for (id, expected) in [
            (creating, "gone"),
            (removing, "gone"),
            (published, "paused"),
            (resuming, "paused"),
            (without, "lost"),
            (paused, "paused"),
            (original.as_str(), "paused"),
        ] {
            assert_eq!(daemon.phase(id).await, expected);
        }
        assert!(daemon.ok(&["ls", "--json"]).await.contains("manifest"), "why it is lost is said");
        assert_eq!(qemus_of(state), Vec::<i32>::new(), "VMs that have no right to live");
        for dir in ["run", "staging", "cache"] {
            assert_eq!(names(state.join(dir)), Vec::<String>::new(), "{dir}");
        }
        assert_eq!(names(state.join("sandboxes")).len(), 5);
        // Of the template, of the four that are paused, and what is left of the one that is lost.
        assert_eq!(names(state.join("snapshots")).len(), 6, "{:?}", names(state.join("snapshots")));
        for id in [published, resuming, paused] {
            daemon.ok(&["resume", id]).await;
            assert_eq!(note(&daemon, id).await, "remembered");
        }
        daemon.ok(&["rm", "--all"]).await;
        assert_eq!(names(state.join("snapshots")).len(), 1, "only the template's");
    });
}

#[test]
fn what_cannot_be_read_is_left_as_it_is_and_nothing_is_cleared_away() {
    block_on(async {
        let fresh = FreshState::new("unreadable").await;
        let state = fresh.path();
        let daemon = Daemon::start(state).await;
        let (runs, paused) = (running(&daemon, "running").await, running(&daemon, "paused").await);
        daemon.ok(&["pause", &paused]).await;
        daemon.kill_dash_nine().await;
        let (vms, snapshots) = (qemus_of(state), names(state.join("snapshots")));
        let records = [record_file(state, &runs), record_file(state, &paused)];
        let whole = records.clone().map(|file| fs::read(file).unwrap());
        for file in &records {
            fs::write(file, "{\"id\": ").unwrap();
        }

        let daemon = Daemon::start(state).await;
        assert_eq!(daemon.ok(&["ls", "--json"]).await, "[]");
        assert_eq!(qemus_of(state), vms, "the VM of a sandbox whose record cannot be read goes on");
        assert_eq!(names(state.join("snapshots")), snapshots);
        daemon.kill_dash_nine().await;

        for (file, bytes) in records.iter().zip(&whole) {
            fs::write(file, bytes).unwrap();
        }
        let daemon = Daemon::start(state).await;
        assert_eq!((daemon.phase(&runs).await, daemon.phase(&paused).await), ("running".into(), "paused".into()));
        daemon.ok(&["resume", &paused]).await;
        assert_eq!((note(&daemon, &runs).await, note(&daemon, &paused).await), ("running".into(), "paused".into()));
        daemon.ok(&["rm", "--all"]).await;
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_lets_its_sandboxes_run_on() {
    block_on(async {
        let fresh = FreshState::new("stopped").await;
        let state = fresh.path();
        for signal in [Signal::INT, Signal::TERM] {
            let daemon = Daemon::start(state).await;
            let id = running(&daemon, "remembered").await;
            let pid = Pid::from_raw(daemon.pid().try_into().unwrap()).unwrap();
            kill_process(pid, signal).unwrap();
            assert!(daemon.ended().await.success(), "{signal:?}");
            assert_eq!(qemus_of(state).len(), 1, "{signal:?}");
            assert!(!state.join("daemon.json").exists(), "clients are not sent to a daemon that is gone");

            let daemon = Daemon::start(state).await;
            assert_eq!(note(&daemon, &id).await, "remembered");
            daemon.ok(&["rm", &id]).await;
            daemon.kill_dash_nine().await;
        }
    });
}

#[test]
fn a_vm_killed_in_the_midst_of_a_pause_leaves_the_sandbox_paused_or_lost() {
    block_on(async {
        let fresh = FreshState::new("killed-pausing").await;
        let state = fresh.path();
        let daemon = Daemon::start(state).await;
        for after_ms in [5, 100, 400] {
            let id = running(&daemon, "remembered").await;
            daemon.ok(&["exec", &id, "--", "sh", "-c", "head -c 60M /dev/urandom > /dev/shm/more"]).await;
            let pausing = daemon.spawn(&["pause", &id]);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            for vm in qemus_of(state) {
                kill_process(Pid::from_raw(vm).unwrap(), Signal::KILL).unwrap();
            }
            let ended = pausing.wait_with_output().await.unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            let found = settled(&daemon, &id).await;
            println!("killed {after_ms} ms into a pause: {found}, {said:?}");
            if ended.status.success() {
                assert_eq!(found, "paused");
                daemon.ok(&["resume", &id]).await;
                assert_eq!(note(&daemon, &id).await, "remembered");
            } else {
                assert_eq!(found, "lost");
                assert!(!said.is_empty(), "why is said");
                let listed = daemon.ok(&["ls", "--json"]).await;
                assert!(listed.contains("signal 9") || listed.contains("killed"), "{listed}");
            }
            assert_eq!(names(state.join("staging")), Vec::<String>::new());
            daemon.ok(&["rm", &id]).await;
            assert_eq!(names(state.join("snapshots")).len(), 1, "only the template's");
            assert_eq!(names(state.join("run")), Vec::<String>::new());
        }
    });
}

/// The phase once it is none in between.
async fn settled(daemon: &Daemon, id: &str) -> String {
    for _ in 0..200 {
        let phase = daemon.phase(id).await;
        if phase == "paused" || phase == "lost" {
            return phase;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    daemon.phase(id).await
}
