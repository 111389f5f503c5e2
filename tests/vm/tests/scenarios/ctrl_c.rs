//! Ctrl-C in every long command: nothing is left behind, nothing is lost.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dormouse_vm_tests::{Daemon, FreshState, binary, block_on, processes_of, qemus_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

fn interrupt(child: &Child) {
    // A command that has ended needs none.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT).unwrap();
    }
}

/// How a command that was interrupted ended. One that never does would hang the scenario.
async fn ended(child: &mut Child) -> ExitStatus {
    let ended = tokio::time::timeout(Duration::from_secs(120), child.wait()).await;
    ended.expect("an interrupted command does not end").unwrap()
}

async fn wait_until(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to that");
}

async fn some_vm_runs(state: &Path) {
    wait_until(async || !qemus_of(state).is_empty()).await;
}

fn entries(state: &Path, dir: &str) -> usize {
    fs::read_dir(state.join(dir)).unwrap().count()
}

/// Waits until exactly `ids` are there, with a VM and a run folder for each that runs and nothing half-done.
async fn only(daemon: &Daemon, state: &Path, ids: &[&str]) {
    for _ in 0..600 {
        let listed: Value = serde_json::from_str(&daemon.ok(&["ls", "--json"]).await).unwrap();
        let listed = listed.as_array().unwrap();
        let known = listed.iter().all(|s| ids.iter().any(|id| s["id"] == **id)) && listed.len() == ids.len();
        let running = listed.iter().filter(|s| s["phase"] == "running").count();
        let settled = listed.iter().all(|s| s["phase"] == "running" || s["phase"] == "paused");
        let vms = entries(state, "run") == running && qemus_of(state).len() == running;
        if known && settled && vms && entries(state, "staging") == 0 && entries(state, "sandboxes") == ids.len() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("something is left: {:?} {}", qemus_of(state), daemon.ok(&["ls"]).await);
}

#[test]
fn commands_that_make_something_take_it_away_again() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c").await;
        let daemon = Daemon::start(fresh.path()).await;

        let mut run = daemon.spawn(&["run", "--", "sleep", "600"]);
        some_vm_runs(fresh.path()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        interrupt(&run);
        assert!(!ended(&mut run).await.success());
        // At once, not when the lease of its sandbox has run out.
        assert_eq!(daemon.ok(&["ls", "--json"]).await, "[]");
        only(&daemon, fresh.path(), &[]).await;

        let mut create = daemon.spawn(&["create"]);
        some_vm_runs(fresh.path()).await;
        interrupt(&create);
        ended(&mut create).await;
        only(&daemon, fresh.path(), &[]).await;

        let packages = async || !processes_of(fresh.path(), "mmdebstrap").is_empty();
        let mut build = daemon.spawn(&["template", "build", "other", "--package", "hello"]);
        wait_until(packages).await;
        interrupt(&build);
        assert!(!ended(&mut build).await.success());
        wait_until(async || !packages().await).await;
        only(&daemon, fresh.path(), &[]).await;

        let mut build = daemon.spawn(&["template", "build", "other", "--ram", "512M"]);
        some_vm_runs(fresh.path()).await;
        interrupt(&build);
        assert!(!ended(&mut build).await.success());
        only(&daemon, fresh.path(), &[]).await;
        let templates = daemon.ok(&["template", "ls"]).await;
        assert!(!templates.contains("other"), "{templates}");
    });
}

#[test]
fn a_pause_or_resume_is_done_or_not_begun() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-pause").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        daemon.ok(&["exec", &id, "--", "sh", "-c", "head -c 40M /dev/urandom > /dev/shm/note"]).await;
        let sum = daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await;
        for (command, after_ms) in
            [("pause", 20), ("resume", 20), ("pause", 150), ("resume", 150), ("pause", 400), ("resume", 400)]
        {
            let mut child = daemon.spawn(&[command, &id]);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            interrupt(&child);
            ended(&mut child).await;
            only(&daemon, fresh.path(), &[&id]).await;
            let found = daemon.phase(&id).await;
            println!("{command} interrupted after {after_ms} ms: {found}");
            if found == "paused" {
                daemon.ok(&["resume", &id]).await;
            }
            assert_eq!(daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await, sum);
            if command == "pause" {
                daemon.ok(&["pause", &id]).await;
            }
        }
        daemon.ok(&["rm", &id]).await;
        only(&daemon, fresh.path(), &[]).await;
        assert_eq!(entries(fresh.path(), "snapshots"), 1, "only the template's");
    });
}

#[test]
fn a_fork_takes_its_copies_away_again() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-fork").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        daemon.ok(&["pause", &id]).await;
        // Interrupted when the first copy is up and others are not: more copies than may start at the same time.
        let mut fork = daemon.spawn(&["fork", "-n", "6", &id]);
        wait_until(async || qemus_of(fresh.path()).len() >= 2).await;
        interrupt(&fork);
        assert!(!ended(&mut fork).await.success());
        only(&daemon, fresh.path(), &[&id]).await;
        assert_eq!(daemon.phase(&id).await, "paused");
        daemon.ok(&["resume", &id]).await;
        daemon.ok(&["rm", &id]).await;
    });
}

#[test]
fn a_snapshot_that_nobody_was_told_of_does_not_stay() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-snapshot").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        daemon.ok(&["exec", &id, "--", "sh", "-c", "head -c 60M /dev/urandom > /dev/shm/note"]).await;
        let sum = daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await;
        for after_ms in [20, 200, 500] {
            let mut create = daemon.spawn(&["snapshot", "create", &id]);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            interrupt(&create);
            let told = ended(&mut create).await.success();
            println!("interrupted after {after_ms} ms: {}", if told { "it was done" } else { "it was given up" });
            if told {
                let made: Value = serde_json::from_str(&daemon.ok(&["snapshot", "ls", "--json"]).await).unwrap();
                daemon.ok(&["snapshot", "rm", made[0]["id"].as_str().unwrap()]).await;
            }
            // The daemon notices that its caller is gone, and is then done with the snapshot.
            only(&daemon, fresh.path(), &[&id]).await;
            wait_until(async || entries(fresh.path(), "snapshots") == 1 && entries(fresh.path(), "kept") == 0).await;
            assert_eq!(daemon.ok(&["exec", &id, "--", "sha256sum", "/dev/shm/note"]).await, sum);
        }
        daemon.ok(&["rm", &id]).await;
    });
}

#[test]
fn a_command_in_a_sandbox_ends_and_the_sandbox_stays() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-exec").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        let runs = async |name: &str| daemon.cli(&["exec", &id, "--", "pgrep", "-f", name]).await.code == Some(0);

        let mut exec = daemon.spawn(&["exec", &id, "--", "sleep", "601"]);
        wait_until(async || runs("^sleep 601").await).await;
        interrupt(&exec);
        assert_eq!(ended(&mut exec).await.code(), Some(128 + 15), "the command was asked to stop");
        assert!(!runs("^sleep 601").await);

        // One that does not listen is killed by the second.
        let deaf = "trap '' TERM; while :; do sleep 602; done";
        let mut exec = daemon.spawn(&["exec", &id, "--", "sh", "-c", deaf]);
        wait_until(async || runs("^sleep 602").await).await;
        interrupt(&exec);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(exec.try_wait().unwrap().is_none(), "it goes on");
        interrupt(&exec);
        assert_eq!(ended(&mut exec).await.code(), Some(128 + 9));
        wait_until(async || !runs("^sleep 602").await).await;
        only(&daemon, fresh.path(), &[&id]).await;
        daemon.ok(&["rm", &id]).await;
    });
}

#[test]
fn a_copy_leaves_no_part_of_a_file() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-cp").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        let local = tempfile::tempdir().unwrap();

        // The input never ends, so that the interrupt comes in the middle.
        let pipe = local.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut up = daemon.spawn(&["cp", pipe.to_str().unwrap(), &format!("{id}:/home/user/up")]);
        let mut writer = tokio::fs::File::options().write(true).open(&pipe).await.unwrap();
        writer.write_all(&vec![7; 3 << 20]).await.unwrap();
        writer.flush().await.unwrap();
        let there = async || daemon.cli(&["exec", &id, "--", "test", "-s", "/home/user/up"]).await.code == Some(0);
        wait_until(there).await;
        interrupt(&up);
        assert!(!ended(&mut up).await.success());
        wait_until(async || !there().await).await;
        assert_eq!(daemon.ok(&["exec", &id, "--", "ls", "/home/user"]).await, "", "a part is left in the sandbox");

        daemon.ok(&["exec", &id, "--", "truncate", "-s", "300M", "/home/user/down"]).await;
        let target = local.path().join("down");
        let mut down = daemon.spawn(&["cp", &format!("{id}:/home/user/down"), target.to_str().unwrap()]);
        wait_until(async || fs::read_dir(local.path()).unwrap().count() > 1).await;
        interrupt(&down);
        ended(&mut down).await;
        assert_eq!(fs::read_dir(local.path()).unwrap().count(), 1, "only the pipe");
        daemon.ok(&["rm", &id]).await;
    });
}

/// `dormouse shell` on a terminal that `script` of util-linux makes.
fn shell(daemon: &Daemon, state: &Path, id: &str) -> Child {
    let command = format!("{} shell {id}", binary("dormouse").display());
    let mut script = tokio::process::Command::new("script");
    script.args(["-qefc", &command, "/dev/null"]).env("DORMOUSE_STATE", state).env("TERM", "dumb");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    assert!(daemon.pid() > 0);
    script.spawn().expect("start script")
}

#[test]
fn ctrl_c_in_a_shell_goes_to_what_runs_in_it() {
    block_on(async {
        let fresh = FreshState::new("ctrl-c-shell").await;
        let daemon = Daemon::start(fresh.path()).await;
        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        let mut shell = shell(&daemon, fresh.path(), &id);
        let (mut input, mut output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let runs = async |name: &str| daemon.cli(&["exec", &id, "--", "pgrep", "-f", name]).await.code == Some(0);

        input.write_all(b"sleep 603\n").await.unwrap();
        wait_until(async || runs("^sleep 603").await).await;
        input.write_all(b"\x03").await.unwrap();
        wait_until(async || !runs("^sleep 603").await).await;
        input.write_all(b"echo still $((40 + 2)) here; exit 5\n").await.unwrap();
        let mut shown = String::new();
        output.read_to_string(&mut shown).await.unwrap();
        assert!(shown.contains("still 42 here"), "{shown}");
        assert_eq!(ended(&mut shell).await.code(), Some(5), "the shell's exit code: {shown}");
        wait_until(async || !runs("^/bin/bash -i -l").await).await;
        only(&daemon, fresh.path(), &[&id]).await;
        daemon.ok(&["rm", &id]).await;
    });
}
