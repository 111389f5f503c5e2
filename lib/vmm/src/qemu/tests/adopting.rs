//! A later process takes over.

use std::process::{Command, Stdio};

use rustix::process::{Pid, kill_process};

use super::guest::Program;
use super::*;
use crate::qemu::record::Record;
use crate::qemu::{adopt, connect, process};
use crate::qmp::QmpError;
use crate::{ProcessEnd, RunState, VmmError};

#[tokio::test]
async fn a_running_vm_is_taken_over_and_obeys() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    let (pid, spec) = (vm.pid(), vm.spec().clone());
    drop(vm);

    let vm = adopt::adopt(&bench.qemu, &dir).await.unwrap();
    assert_eq!((vm.pid(), vm.spec()), (pid, &spec));
    assert_eq!(vm.run_state().await.unwrap(), RunState::Running);
    vm.pause().await.unwrap();
    assert!(populated(vm.paused_ram().unwrap().as_ref()) == seen_by_qemu(&vm, &dir).await);
    vm.kill().await.unwrap();
    assert_eq!(vm.exited().await.end, ProcessEnd::Killed);
    assert_eq!(processes_in(&dir), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_paused_restored_vm_is_taken_over_with_its_ram() {
    let bench = Bench::new().await;
    let dir = bench.dir("clone");
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    drop(bench.restore("clone", &snapshot).await.unwrap());

    let vm = adopt::adopt(&bench.qemu, &dir).await.unwrap();
    assert_eq!(vm.run_state().await.unwrap(), RunState::Paused);
    assert!(populated(vm.paused_ram().unwrap().as_ref()) == seen_by_qemu(&vm, &dir).await);
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_vm_that_died_meanwhile_is_reported_lost() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    let record = fs::read(dir.join("vm.json")).unwrap();
    vm.kill().await.unwrap();
    assert!(!dir.join("vm.json").exists() && !dir.join("qmp.sock").exists(), "kill leaves no record and no socket");
    fs::write(dir.join("vm.json"), record).unwrap();
    let error = adopt::adopt(&bench.qemu, &dir).await.err().unwrap().to_string();
    assert!(error.contains("is gone"), "{error}");
    let nothing = adopt::adopt(&bench.qemu, &dir).await.err().unwrap();
    assert!(matches!(nothing, VmmError::NotAdoptable { .. }));
}

#[tokio::test]
async fn another_process_that_got_the_pid_is_neither_taken_nor_harmed() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    let record = fs::read(dir.join("vm.json")).unwrap();
    vm.kill().await.unwrap();
    let mut stranger = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    fs::write(dir.join("vm.json"), record).unwrap();
    change_record(&dir, "pid", stranger.id().into());

    assert!(adopt::adopt(&bench.qemu, &dir).await.is_err());
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger was harmed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_process_of_another_boot_of_the_host_is_neither_taken_nor_harmed() {
    let mut bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    // The process still runs, as if it had been given the same pid and start time again.
    change_record(&dir, "boot_id", "another".into());
    bench.qemu.deadlines.start = Duration::from_millis(300);
    let error = adopt::adopt(&bench.qemu, &dir).await.err().unwrap().to_string();
    assert!(error.contains("is gone"), "{error}");
    assert_eq!(vm.run_state().await.unwrap(), RunState::Running, "the process was harmed");
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_later_version_is_refused_and_its_vm_runs_on() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    change_record(&dir, "version", 2.into());
    let error = adopt::adopt(&bench.qemu, &dir).await.err().unwrap().to_string();
    assert!(error.contains("version 2"), "{error}");
    assert_eq!(vm.run_state().await.unwrap(), RunState::Running);
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_process_that_never_listens_costs_a_deadline() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let mut silent = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let process = process::of(silent.id());
    let deadline = Duration::from_millis(200);
    let connected = tokio::time::timeout(SOON, connect::connect(&dir, &process, deadline)).await;
    silent.kill().unwrap();
    silent.wait().unwrap();
    let error = connected.expect("it waited for ever").unwrap().err().unwrap();
    assert!(matches!(error, QmpError::Deadline { after, .. } if after == deadline), "{error}");
}

#[tokio::test]
async fn a_hung_vm_is_ended_when_it_cannot_be_taken_over() {
    let mut bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Count).await;
    signal(vm.pid(), Signal::STOP);
    drop(vm);
    bench.qemu.deadlines.start = Duration::from_millis(300);
    let error = adopt::adopt(&bench.qemu, &dir).await.err().unwrap().to_string();
    assert!(error.contains("was ended because"), "{error}");
    assert_eq!(processes_in(&dir), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_damaged_record_is_refused_with_the_reason() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    for (text, reason) in [("{", "damaged"), ("{\"version\": 1}", "damaged"), ("", "damaged")] {
        fs::write(dir.join("vm.json"), text).unwrap();
        assert!(Record::read(&dir).unwrap_err().contains(reason), "{text}");
    }
}

fn change_record(dir: &Path, field: &str, value: serde_json::Value) {
    let path = dir.join("vm.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record[field] = value;
    fs::write(path, record.to_string()).unwrap();
}

pub(super) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}
