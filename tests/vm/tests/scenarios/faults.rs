//! What goes wrong is said, ends in bounded time, and loses nothing.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dormouse_image::manifest::Manifest;
use dormouse_lifecycle::{Error, Host, Limits, Options, PauseOptions, Phase, SandboxId, SnapshotId};
use dormouse_vm_tests::{
    FreshState, Guest, binary, block_on, host, new_sandbox, pack_file, sandbox, state_dir, status_of, vm_pid, vmm,
};
use rustix::process::{Signal, kill_process};

const AN_HOUR: Duration = Duration::from_secs(3600);
/// More than all deadlines of a pause together; what takes longer hangs.
const BOUND: Duration = Duration::from_secs(120);

async fn options(state: &Path, limits: Limits) -> Options {
    Options { state: state.to_owned(), vmm: vmm().await, agent: binary("dormouse-agent"), limits, remote: None }
}

async fn open(state: &Path, limits: Limits) -> Host {
    Host::open(options(state, limits).await).await.unwrap().0
}

fn entries(dir: PathBuf) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn flip_a_bit(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// A paused sandbox with something to remember.
async fn paused() -> (SandboxId, PathBuf) {
    let (info, guest) = sandbox().await;
    guest.sh("echo remembered > /dev/shm/note").await;
    let snapshot = host().await.pause(&info.id, PauseOptions::default()).await.unwrap();
    (info.id, state_dir().join("snapshots").join(snapshot.as_str()))
}

/// Resuming must fail with `reason` and leave the sandbox paused; after `mend` it must work.
async fn refused_then_mended(id: &SandboxId, reason: &str, mend: impl FnOnce()) {
    let host = host().await;
    let error = host.connect(id, AN_HOUR).await.unwrap_err();
    assert!(matches!(error, Error::Snapshot { .. }), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(host.get(id).unwrap().phase, Phase::Paused);
    assert!(!state_dir().join("run").join(id.as_str()).exists(), "a half-started VM's folder was left");
    mend();
    host.connect(id, AN_HOUR).await.unwrap();
    assert_eq!(Guest::of(host, id).await.sh("cat /dev/shm/note").await, "remembered");
    host.kill(id).await.unwrap();
}

#[test]
fn a_pack_with_a_flipped_bit_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let pack = own_pack(&snapshot);
        let middle = fs::metadata(&pack).unwrap().len() / 2;
        flip_a_bit(&pack, middle);
        refused_then_mended(&id, "do not match their checksum", || flip_a_bit(&pack, middle)).await;
    });
}

#[test]
fn a_pack_that_is_missing_is_named_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let pack = own_pack(&snapshot);
        let away = pack.with_extension("away");
        fs::rename(&pack, &away).unwrap();
        let name = pack.file_stem().unwrap().to_str().unwrap().to_owned();
        refused_then_mended(&id, &name, || fs::rename(&away, &pack).unwrap()).await;
    });
}

#[test]
fn an_image_index_with_a_flipped_bit_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let index = snapshot.join("memory.idx");
        let middle = fs::metadata(&index).unwrap().len() / 2;
        flip_a_bit(&index, middle);
        refused_then_mended(&id, "is damaged", || flip_a_bit(&index, middle)).await;
    });
}

#[test]
fn an_overlay_disk_that_was_changed_behind_our_back_is_named_and_the_sandbox_stays_paused() {
    block_on(async {
        let (info, guest) = sandbox().await;
        guest.sh("echo remembered > /dev/shm/note; yes 'a line of a file that stays in the page cache' | head -c 4M > /root/cached; sync").await;
        let snapshot = host().await.pause(&info.id, PauseOptions::default()).await.unwrap();
        let overlay = state_dir().join("snapshots").join(snapshot.as_str()).join("overlay.ext4");
        let place = offset_of(&overlay, b"a line of a file that stays in the page cache");
        flip_a_bit(&overlay, place);
        refused_then_mended(&info.id, "overlay", || flip_a_bit(&overlay, place)).await;
    });
}

/// Where these bytes are in a file.
fn offset_of(file: &Path, wanted: &[u8]) -> u64 {
    let bytes = fs::read(file).unwrap();
    let at = bytes.chunks(4096).position(|block| block.windows(wanted.len()).any(|w| w == wanted)).unwrap();
    (at * 4096) as u64 + 100
}

/// The pack that a pause wrote: the one that the template does not need.
fn own_pack(snapshot: &Path) -> PathBuf {
    let needed = |dir: &Path| Manifest::read(dir).unwrap().memory.packs;
    let template: serde_json::Value =
        serde_json::from_slice(&fs::read(state_dir().join("templates/base.json")).unwrap()).unwrap();
    let shared = needed(&state_dir().join("snapshots").join(template["snapshot"].as_str().unwrap()));
    let own = needed(snapshot).into_iter().find(|pack| !shared.contains(pack)).unwrap();
    pack_file(&state_dir(), &own.id)
}

#[test]
fn a_truncated_memory_image_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let image = snapshot.join("memory.idx");
        let whole = fs::read(&image).unwrap();
        fs::write(&image, &whole[..whole.len() - 100]).unwrap();
        refused_then_mended(&id, "bytes expected", || fs::write(&image, &whole).unwrap()).await;
    });
}

#[test]
fn a_damaged_device_state_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let state = snapshot.join("device.state.zst");
        flip_a_bit(&state, 100);
        refused_then_mended(&id, "device state", || flip_a_bit(&state, 100)).await;
    });
}

#[test]
fn a_snapshot_of_another_qemu_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        for (fact, value) in [("machine", "pc-q35-6.2"), ("version", "8.2.0")] {
            let (id, snapshot) = paused().await;
            let manifest = snapshot.join("manifest.json");
            let whole = fs::read(&manifest).unwrap();
            let mut other = Manifest::read(&snapshot).unwrap();
            assert!(other.fingerprint.insert(fact.into(), value.into()).is_some());
            fs::remove_file(&manifest).unwrap();
            other.write_into(&snapshot).unwrap();
            let reason = format!("but {value} in the snapshot");
            refused_then_mended(&id, &reason, || fs::write(&manifest, &whole).unwrap()).await;
        }
    });
}

#[test]
fn a_manifest_of_a_later_version_is_refused_and_the_sandbox_stays_paused() {
    block_on(async {
        let (id, snapshot) = paused().await;
        let manifest = snapshot.join("manifest.json");
        let whole = fs::read_to_string(&manifest).unwrap();
        let later = whole.replacen("\"version\": 2", "\"version\": 7", 1);
        assert_ne!(whole, later);
        fs::write(&manifest, later).unwrap();
        refused_then_mended(&id, "newer", || fs::write(&manifest, &whole).unwrap()).await;
    });
}

#[test]
fn a_killed_vm_is_reported_lost_and_goes_back_to_its_last_snapshot() {
    block_on(async {
        let (id, _) = paused().await;
        let host = host().await;
        host.connect(&id, AN_HOUR).await.unwrap();
        kill_process(vm_pid(&state_dir(), &id), Signal::KILL).unwrap();
        let lost = wait_for(host, &id, Phase::Lost).await;
        assert!(lost.contains("signal 9") || lost.contains("killed"), "{lost}");
        assert!(matches!(host.endpoint(&id).await, Err(Error::WrongPhase { .. })));
        host.connect(&id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(host, &id).await.sh("cat /dev/shm/note").await, "remembered");
        host.kill(&id).await.unwrap();
    });
}

async fn wait_for(host: &Host, id: &SandboxId, phase: Phase) -> String {
    for _ in 0..200 {
        let info = host.get(id).unwrap();
        if info.phase == phase {
            return info.reason.unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {phase:?}: {:?}", host.get(id).unwrap());
}

#[test]
fn a_vm_that_hangs_fails_the_pause_in_bounded_time_and_goes_on_when_it_wakes() {
    block_on(async {
        let fresh = FreshState::new("hang").await;
        let limits =
            Limits { prepare: Duration::from_secs(2), agent_grace: Duration::from_secs(1), ..Limits::default() };
        let host = open(fresh.path(), limits).await;
        let info = host.create(new_sandbox()).await.unwrap();
        let pid = vm_pid(fresh.path(), &info.id);
        kill_process(pid, Signal::STOP).unwrap();
        let said = failed_pause(&host, &info.id).await.to_string();
        assert!(said.contains("prepare") && said.contains("could not go on"), "{said}");
        kill_process(pid, Signal::CONT).unwrap();
        // What the agent was asked before is done now, and cuts connections until its watchdog undoes it.
        let alive = async {
            loop {
                let guest = Guest::of(&host, &info.id).await;
                let said = tokio::spawn(async move { guest.sh("echo alive").await });
                if said.await.is_ok_and(|said| said == "alive") {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(BOUND, alive).await.expect("the guest does not go on");
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        // The agent may still be prepared from then.
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_pause_that_finds_the_agent_prepared_calls_that_off_and_succeeds() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("echo remembered > /dev/shm/note").await;
        guest.prepare("keep").await;
        let snapshot = host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.verify(&snapshot).await.unwrap();
        host.connect(&info.id, AN_HOUR).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        assert_eq!(guest.sh("cat /dev/shm/note").await, "remembered");
        // A checkpoint as well.
        guest.prepare("keep").await;
        let checkpoint = host.checkpoint(&info.id, None).await.unwrap();
        host.remove_snapshot(checkpoint.id.as_str()).await.unwrap();
        assert_eq!(guest.sh("cat /dev/shm/note").await, "remembered");
        host.kill(&info.id).await.unwrap();
    });
}

/// A pause must fail, and not take for ever.
async fn failed_pause(host: &Host, id: &SandboxId) -> Error {
    let pausing = host.pause(id, PauseOptions::default());
    tokio::time::timeout(BOUND, pausing).await.expect("the pause hangs").unwrap_err()
}

#[test]
fn an_agent_that_hangs_fails_the_pause_in_bounded_time_and_the_sandbox_runs_on() {
    block_on(async {
        let fresh = FreshState::new("frozen").await;
        let limits =
            Limits { prepare: Duration::from_secs(2), agent_grace: Duration::from_secs(1), ..Limits::default() };
        let host = open(fresh.path(), limits).await;
        let info = host.create(new_sandbox()).await.unwrap();
        let guest = Guest::of(&host, &info.id).await;
        // The kernel and the VM are well; only the agent gets no time, until another process gives it some again.
        let freeze = "/sys/fs/cgroup/system/cgroup.freeze";
        let hang =
            format!("sleep 1; echo 1 > {freeze}; while ! [ -e /dev/shm/enough ]; do sleep 1; done; echo 0 > {freeze}");
        guest
            .sh(&format!(
                "setsid sh -c '{hang}' >/dev/null 2>&1 & (sleep 40; touch /dev/shm/enough) >/dev/null 2>&1 & echo"
            ))
            .await;
        wait_until_silent(&guest).await;
        let error = failed_pause(&host, &info.id).await;
        println!("an agent that hangs: {error}");
        assert!(matches!(error, Error::Agent { step: "prepare", .. }), "{error:?}");
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        assert_eq!(entries(fresh.path().join("snapshots")), 1, "only the template's");
        assert_eq!(guest.sh("cat /sys/fs/cgroup/system/cgroup.freeze; echo alive").await, "0\nalive");
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.kill(&info.id).await.unwrap();
    });
}

async fn wait_until_silent(guest: &Guest) {
    let agent = guest.base.trim_start_matches("http://").parse().unwrap();
    for _ in 0..100 {
        if status_of(agent, "GET", "/health", "", Duration::from_secs(3)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the agent answers all the time");
}

#[test]
fn a_prepare_past_its_deadline_fails_the_pause_with_the_reason_and_the_sandbox_runs_on() {
    block_on(async {
        let fresh = FreshState::new("overdue").await;
        let info = {
            // The agent gets no time at all: work that a snapshot must not cut in two cannot be shown to have ended.
            let host = open(fresh.path(), Limits { prepare: Duration::ZERO, ..Limits::default() }).await;
            let info = host.create(new_sandbox()).await.unwrap();
            Guest::of(&host, &info.id).await.sh("echo remembered > /dev/shm/note").await;
            let error = failed_pause(&host, &info.id).await;
            println!("no time to prepare: {error}");
            assert!(matches!(error, Error::Agent { step: "prepare", .. }), "{error:?}");
            assert!(error.to_string().contains("in time"), "{error}");
            assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
            assert_eq!(Guest::of(&host, &info.id).await.sh("cat /dev/shm/note").await, "remembered");
            assert_eq!(entries(fresh.path().join("snapshots")), 1, "only the template's");
            host.shutdown().await;
            info
        };
        let host = open(fresh.path(), Limits::default()).await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.connect(&info.id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(&host, &info.id).await.sh("cat /dev/shm/note").await, "remembered");
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_prepare_without_enough_time_ends_in_bounded_time_and_loses_nothing() {
    block_on(async {
        let fresh = FreshState::new("late").await;
        let host = open(fresh.path(), Limits { prepare: Duration::from_millis(1), ..Limits::default() }).await;
        let info = host.create(new_sandbox()).await.unwrap();
        Guest::of(&host, &info.id).await.sh("echo remembered > /dev/shm/note").await;
        let pausing = host.pause(&info.id, PauseOptions::default());
        let paused = tokio::time::timeout(BOUND, pausing).await.expect("the pause hangs");
        println!("a prepare with 1 ms: {paused:?}");
        let phase = host.get(&info.id).unwrap().phase;
        assert_eq!(phase, if paused.is_ok() { Phase::Paused } else { Phase::Running });
        host.connect(&info.id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(&host, &info.id).await.sh("cat /dev/shm/note").await, "remembered");
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_full_disk_fails_the_pause_says_how_much_is_needed_and_the_vm_goes_on() {
    block_on(async {
        let small = SmallDisk::mount(900);
        let fresh = FreshState::copied_to(&small.path().join("state")).await;
        let host = open(fresh.path(), Limits::default()).await;
        let info = host.create(new_sandbox()).await.unwrap();
        let guest = Guest::of(&host, &info.id).await;
        guest.sh("head -c 60M /dev/urandom > /dev/shm/incompressible").await;
        let sum = guest.sh("sha256sum < /dev/shm/incompressible").await;
        // On this file system a VM needs room for pages of its RAM file that it touches for the first time.
        small.fill_but(40);

        let error = host.pause(&info.id, PauseOptions::default()).await.unwrap_err();
        let Error::NoSpace { needed, available } = error else { panic!("{error:?}") };
        println!("needed {needed}, available {available}");
        assert!(needed.0 > 60 << 20, "at least the random data: {needed}");
        assert!(available.0 < needed.0);
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        assert_eq!(entries(fresh.path().join("staging")), 0, "something half-written was left");
        assert_eq!(entries(fresh.path().join("snapshots")), 1, "only the template's");
        assert_eq!(guest.sh("sha256sum < /dev/shm/incompressible").await, sum);

        small.make_room();
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.connect(&info.id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(&host, &info.id).await.sh("sha256sum < /dev/shm/incompressible").await, sum);

        // Removing makes room, so it must need none.
        small.fill_but(0);
        host.kill(&info.id).await.unwrap();
        assert_eq!(host.list().len(), 0);
        assert_eq!(entries(fresh.path().join("sandboxes")), 0);
        assert_eq!(entries(fresh.path().join("snapshots")), 1, "only the template's");
    });
}

#[test]
fn what_cannot_be_recorded_has_not_happened() {
    block_on(async {
        let fresh = FreshState::new("unrecorded").await;
        let host = open(fresh.path(), Limits::default()).await;
        let info = host.create(new_sandbox()).await.unwrap();
        let guest = Guest::of(&host, &info.id).await;
        guest.sh("echo remembered > /dev/shm/note").await;
        // Where the next version of the record would be written.
        let in_the_way = fresh.path().join("sandboxes").join(format!("{}.half", info.id));
        fs::create_dir(&in_the_way).unwrap();
        let error = failed_pause(&host, &info.id).await;
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Running);
        assert_eq!(guest.sh("cat /dev/shm/note").await, "remembered");
        assert_eq!(entries(fresh.path().join("snapshots")), 1, "only the template's");

        fs::remove_dir(&in_the_way).unwrap();
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        fs::create_dir(&in_the_way).unwrap();
        assert!(matches!(host.connect(&info.id, AN_HOUR).await, Err(Error::Io { .. })));
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Paused);
        assert_eq!(entries(fresh.path().join("run")), 0);

        fs::remove_dir(&in_the_way).unwrap();
        host.connect(&info.id, AN_HOUR).await.unwrap();
        assert_eq!(Guest::of(&host, &info.id).await.sh("cat /dev/shm/note").await, "remembered");
        host.kill(&info.id).await.unwrap();
    });
}

/// A tmpfs of so many MiB.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m,mode=700");
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(dir.path()).status();
        assert!(mounted.unwrap().success(), "mounting a tmpfs needs root");
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    fn fill_but(&self, mib: u64) {
        let file = fs::File::create(self.ballast()).unwrap();
        // A VM may take some of it between the look and the fill.
        let fill = || {
            let stat = rustix::fs::statvfs(self.path()).unwrap();
            let free = stat.f_bavail * stat.f_frsize;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - (mib << 20))
        };
        assert!((0..50).any(|_| fill().is_ok()), "the disk could not be filled");
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_second_host_on_the_same_state_folder_is_refused() {
    block_on(async {
        host().await;
        let refused = Host::open(options(&state_dir(), Limits::default()).await).await.err().unwrap();
        assert!(refused.to_string().contains("another dormouse daemon"), "{refused}");
    });
}

#[test]
fn an_expired_sandbox_is_paused_or_removed_as_it_was_asked() {
    block_on(async {
        let host = host().await;
        let short = Duration::from_secs(1);
        let pausing = dormouse_lifecycle::NewSandbox {
            timeout: short,
            on_timeout: dormouse_lifecycle::OnTimeout::Pause,
            ..new_sandbox()
        };
        let kept = host.create(pausing).await.unwrap();
        wait_for(host, &kept.id, Phase::Paused).await;
        let snapshot: SnapshotId = host.get(&kept.id).unwrap().snapshot.unwrap();
        host.verify(&snapshot).await.unwrap();
        host.kill(&kept.id).await.unwrap();

        let gone = host.create(new_sandbox()).await.unwrap();
        host.set_timeout(&gone.id, Duration::ZERO).await.unwrap();
        for _ in 0..200 {
            if host.get(&gone.id).is_err() {
                assert!(!state_dir().join("run").join(gone.id.as_str()).exists());
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still there: {:?}", host.get(&gone.id));
    });
}
