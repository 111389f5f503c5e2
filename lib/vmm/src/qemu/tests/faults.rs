//! What goes wrong, and how it shows.

use super::adopting::signal;
use super::guest::{GREETING, Program};
use super::*;
use crate::{ProcessEnd, RunState, Vmm, VmmError};

const BOUND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_vm_whose_qemu_was_killed_says_so_on_every_call() {
    let bench = Bench::new().await;
    let vm = bench.boot("vm", Program::Count).await;
    vm.pause().await.unwrap();
    signal(vm.pid(), Signal::KILL);
    let reason = vm.exited().await;
    assert_eq!(reason.end, ProcessEnd::Signalled { signal: 9 });
    assert!(reason.to_string().contains(GREETING), "{reason}");
    let start = Instant::now();
    let errors = [
        vm.run_state().await.err(),
        vm.pause().await.err(),
        vm.resume().await.err(),
        vm.save_device_state("state").await.err(),
    ];
    assert!(errors.iter().all(|e| matches!(e, Some(VmmError::Gone(_)))), "{errors:?}");
    vm.kill().await.unwrap();
    assert!(start.elapsed() < BOUND);
}

#[tokio::test]
async fn a_hung_qemu_costs_a_deadline_and_can_be_killed() {
    let bench = Bench::impatient(Duration::from_millis(300)).await;
    let vm = bench.boot("vm", Program::Count).await;
    signal(vm.pid(), Signal::STOP);
    let start = Instant::now();
    let error = vm.pause().await.unwrap_err();
    assert_eq!(error.to_string(), "the VMM took longer than 300ms to answer `stop`; it may hang");
    assert!(matches!(vm.run_state().await, Err(VmmError::Deadline { .. })));
    assert!(matches!(vm.paused_ram().err(), Some(VmmError::WrongState { .. })), "a failed pause is no pause");
    vm.kill().await.unwrap();
    assert!(start.elapsed() < BOUND);
    assert_eq!(processes_in(&bench.dir("vm")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_guest_that_resets_ends_its_vm_and_its_last_words_are_kept() {
    let bench = Bench::new().await;
    let vm = bench.boot("vm", Program::Reset).await;
    let reason = vm.exited().await;
    assert_eq!((reason.end, reason.guest_said.as_str()), (ProcessEnd::Exited { code: 0 }, GREETING));
    let error = vm.pause().await.unwrap_err().to_string();
    assert!(error.starts_with("the VM is gone: the guest powered off or reset"), "{error}");
}

#[tokio::test]
async fn a_guest_that_prints_for_ever_fills_nothing_and_can_be_paused() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let vm = bench.boot("vm", Program::Flood).await;
    until("much was printed", async || vm.console_tail(usize::MAX).await.len() == 64 << 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    vm.pause().await.unwrap();
    assert_eq!(vm.console_tail(usize::MAX).await.len(), 64 << 10);
    assert_eq!(vm.console_tail(3).await, b"xxx");
    let on_disk = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!(on_disk < 2 << 20, "{on_disk} bytes in the folder");
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_told_apart_and_leaves_nothing() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = bench.spec(&dir);
    spec.net.host_port = port;
    let boot = bench.program(Program::Count);
    let error = launch::boot(&bench.qemu, &dir, &spec, &boot).await.err().unwrap();
    assert!(matches!(error, VmmError::HostPortTaken { port: p } if p == port), "{error}");
    assert_eq!(processes_in(&dir), Vec::<PathBuf>::new());
    drop(taken);
    // Processes that other tests start at this moment have it too, until they are themselves.
    until("the port is free", async || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).await;
    launch::boot(&bench.qemu, &dir, &spec, &boot).await.unwrap().kill().await.unwrap();
    let left = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left, ["overlay"], "only what the caller put there");
}

#[tokio::test]
async fn what_qemu_said_when_it_did_not_start_is_in_the_error() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let boot = Boot { kernel: "/nonexistent/kernel".into(), ..bench.program(Program::Count) };
    let error = launch::boot(&bench.qemu, &dir, &bench.spec(&dir), &boot).await.err().unwrap().to_string();
    assert!(error.contains("could not load kernel") || error.contains("could not open kernel"), "{error}");
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let bench = Bench::new().await;
    let dir = bench.dir("vm");
    let (spec, boot) = (bench.spec(&dir), bench.program(Program::Count));
    let starting = launch::boot(&bench.qemu, &dir, &spec, &boot);
    tokio::select! {
        biased;
        () = until("it has a process", async || !processes_in(&dir).is_empty()) => {}
        _ = starting => panic!("started before it could be given up"),
    }
    until("the process is gone", async || processes_in(&dir).is_empty()).await;
    assert!(!dir.join("vm.json").exists());
}

#[tokio::test]
async fn a_second_vm_gets_neither_the_folder_nor_the_writable_disk_of_the_first() {
    let bench = Bench::new().await;
    let (first, second) = (bench.dir("first"), bench.dir("second"));
    let vm = bench.boot("first", Program::Count).await;
    let boot = bench.program(Program::Count);
    let in_folder = launch::boot(&bench.qemu, &first, &bench.spec(&second), &boot).await.err().unwrap();
    assert!(in_folder.to_string().contains("a VM already runs in"), "{in_folder}");
    let spec = VmSpec { disks: vm.spec().disks.clone(), ..bench.spec(&second) };
    let on_disk = launch::boot(&bench.qemu, &second, &spec, &boot).await.err().unwrap();
    assert!(on_disk.to_string().contains("lock"), "{on_disk}");
    assert_eq!(vm.run_state().await.unwrap(), RunState::Running);
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_damaged_or_foreign_device_state_is_refused() {
    let bench = Bench::new().await;
    let good = bench.snapshot_of_a_counting_guest().await;
    let bytes = fs::read(&good.state).unwrap();
    for (name, state) in [("cut", &bytes[..bytes.len() / 2]), ("random", &[0x5a; 5000][..]), ("empty", &[][..])] {
        let bad = Snapshot { state: bench.folder.path().join(name), ram: good.ram.clone() };
        fs::write(&bad.state, state).unwrap();
        let error = bench.restore(name, &bad).await.err().unwrap();
        assert!(matches!(&error, VmmError::StateRefused { .. }), "{name}: {error}");
        assert_eq!(processes_in(&bench.dir(name)), Vec::<PathBuf>::new());
    }
    let short = Snapshot { ram: good.state.clone(), state: good.state.clone() };
    assert!(matches!(bench.restore("short", &short).await.err(), Some(VmmError::BadSpec { .. })));
}

#[tokio::test]
async fn another_machine_type_is_seen_in_the_fingerprint_before_it_is_tried() {
    let (here, there) = (Bench::new().await, older_machine().await);
    let spec = here.spec(&here.dir("vm"));
    let mismatch = here.qemu.fingerprint(&spec).mismatch(&there.qemu.fingerprint(&spec)).unwrap();
    let expected = format!("machine is {} here but pc-q35-8.2 in the snapshot", here.qemu.facts().machine);
    assert_eq!(mismatch, expected);
    let more_cpus = VmSpec { vcpus: 3, ..spec.clone() };
    let mismatch = here.qemu.fingerprint(&spec).mismatch(&here.qemu.fingerprint(&more_cpus)).unwrap();
    assert_eq!(mismatch, "vcpus is 2 here but 3 in the snapshot");
    let balloon = vec!["-device".to_owned(), "virtio-balloon-pci".to_owned()];
    let ballooned = Bench::with(QemuOptions { extra_args: balloon, ..QemuOptions::default() }).await;
    let mismatch = here.qemu.fingerprint(&spec).mismatch(&ballooned.qemu.fingerprint(&spec)).unwrap();
    assert_eq!(mismatch, "extra is nothing here but -device virtio-balloon-pci in the snapshot");
}

async fn older_machine() -> Bench {
    Bench::with(QemuOptions { machine: Some("pc-q35-8.2".into()), ..QemuOptions::default() }).await
}
