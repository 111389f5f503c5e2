//! A later process takes over.

use std::process::{Command, Stdio};

use rustix::process::{Pid, kill_process};

use super::guest::Program;
use super::*;
use crate::qemu::{adopt, record::Record};
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
    let source = bench.boot("source", Program::Count).await;
    source.pause().await.unwrap();
    let snapshot = Snapshot::take(&bench, &source, "first").await;
    source.kill().await.unwrap();
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
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("vm.json")).unwrap()).unwrap();
    vm.kill().await.unwrap();
    let mut stranger = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    record["pid"] = stranger.id().into();
    fs::write(dir.join("vm.json"), record.to_string()).unwrap();

    assert!(adopt::adopt(&bench.qemu, &dir).await.is_err());
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger was harmed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
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

pub(super) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}
