//! What a guest has is what it has again: across pauses, in copies, byte for byte.

use std::time::Duration;

use dormouse_guest_mem::PageSet;
use dormouse_image::{ImageReader, PageKind};
use dormouse_lifecycle::{Connected, PauseOptions, Phase};
use dormouse_vm_tests::{Guest, block_on, differences, host, ram_bytes, sandbox, state_dir, vmm};
use dormouse_vmm::{Vm, Vmm};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Holds 200 MiB of random bytes in anonymous memory and, as often as it is asked, writes their hash to a file.
const KEEPER: &str = r#"
import hashlib, os, signal, time
data = bytearray(os.urandom(1 << 20) * 1)
block = [os.urandom(1 << 20) for _ in range(200)]
def answer(*_):
    h = hashlib.sha256()
    for b in block: h.update(b)
    with open('/run/keeper.tmp', 'w') as f: f.write(h.hexdigest())
    os.rename('/run/keeper.tmp', '/run/keeper.sum')
signal.signal(signal.SIGUSR1, answer)
answer()
while True: time.sleep(3600)
"#;

async fn keeper_sum(guest: &Guest) -> String {
    guest
        .sh("rm -f /run/keeper.sum; pkill -USR1 -f keeper.py; for i in $(seq 600); do [ -s /run/keeper.sum ] && break; sleep 0.1; done; cat /run/keeper.sum")
        .await
}

#[test]
fn two_hundred_mib_of_memory_and_files_survive_five_cycles() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh(&format!("cat > /run/keeper.py <<'END'\n{KEEPER}\nEND")).await;
        guest.sh("setsid python3 /run/keeper.py >/dev/null 2>&1 & for i in $(seq 600); do [ -s /run/keeper.sum ] && exit 0; sleep 0.1; done; exit 1").await;
        guest.sh("head -c 30M /dev/urandom > /root/on-disk; head -c 20M /dev/urandom > /dev/shm/in-memory").await;
        let files = "sha256sum /root/on-disk /dev/shm/in-memory";
        let (sum, file_sums) = (guest.sh("cat /run/keeper.sum").await, guest.sh(files).await);
        assert_eq!(sum.len(), 64);

        for cycle in 1..=5 {
            host.pause(&info.id, PauseOptions::default()).await.unwrap();
            assert_eq!(host.get(&info.id).unwrap().phase, Phase::Paused);
            let (_, connected) = host.connect(&info.id, AN_HOUR).await.unwrap();
            assert_eq!(connected, Connected::Resumed);
            let guest = Guest::of(host, &info.id).await;
            assert_eq!(keeper_sum(&guest).await, sum, "anonymous memory after cycle {cycle}");
            assert_eq!(guest.sh(files).await, file_sums, "files after cycle {cycle}");
        }
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn restored_ram_equals_paused_ram_outside_the_free_pages() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("head -c 40M /dev/urandom > /dev/shm/live; head -c 60M /dev/urandom > /dev/shm/dead; rm /dev/shm/dead").await;

        // A second look at the very RAM that the image is made of: the VM is left paused by a hard link on its
        // own files, so the comparison is with the image of the same stop.
        let vm = vmm().await.adopt(&state_dir().join("run").join(info.id.as_str())).await.unwrap();
        let paused = stop_and_read(&*vm).await;
        let snapshot = host.pause(&info.id, PauseOptions::default()).await.unwrap();
        let image = ImageReader::open(&state_dir().join("snapshots").join(snapshot.as_str()).join("memory.img"), None).unwrap();

        let mut restored = vec![0u8; paused.len()];
        let out = tempfile::tempfile_in(state_dir()).unwrap();
        image.materialise(&out, 2, &()).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&out, &mut restored, 0).unwrap();

        let mut free = PageSet::new(image.layout().pages());
        for run in image.runs().filter(|run| run.kind == PageKind::Free) {
            free.insert_range(run.pages);
        }
        println!("{} pages, {} left out as free", image.layout().pages(), free.len());
        assert!(free.len() > 1000, "nothing was left out");
        // The guest ran for a moment between the two stops; what it changed then is small and not ours to count.
        let changed = differences(&paused, &restored, &free).len();
        assert!(changed < 8192, "{changed} pages differ: more than a guest changes while it prepares");

        // The RAM that the next VM sees is the image, to the byte.
        host.connect(&info.id, AN_HOUR).await.unwrap();
        let base = std::fs::read(state_dir().join("run").join(info.id.as_str()).join("base.ram")).unwrap();
        assert!(differences(&restored, &base, &PageSet::new(free.capacity())).is_empty());
        host.kill(&info.id).await.unwrap();
    });
}

async fn stop_and_read(vm: &dyn Vm) -> Vec<u8> {
    vm.pause().await.unwrap();
    let bytes = ram_bytes(&*vm.paused_ram().unwrap());
    vm.resume().await.unwrap();
    bytes
}

#[test]
fn two_copies_continue_from_the_same_state_and_then_differ() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("echo before > /root/note; echo 41 > /dev/shm/counter; head -c 5M /dev/urandom > /dev/shm/same").await;
        let sum = guest.sh("sha256sum < /dev/shm/same").await;
        let boot_id = guest.sh("cat /proc/sys/kernel/random/boot_id").await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();

        let forks = host.fork(&info.id, 2, AN_HOUR).await.unwrap();
        let forks: Vec<_> = forks.into_iter().map(Result::unwrap).collect();
        let (a, b) = (Guest::of(host, &forks[0].id).await, Guest::of(host, &forks[1].id).await);
        for guest in [&a, &b] {
            assert_eq!(guest.sh("cat /root/note /dev/shm/counter").await, "before\n41");
            assert_eq!(guest.sh("sha256sum < /dev/shm/same").await, sum);
            assert_eq!(guest.sh("cat /proc/sys/kernel/random/boot_id").await, boot_id, "memory went on, nothing booted");
        }
        let random = "head -c 32 /dev/urandom | sha256sum";
        assert_ne!(a.sh(random).await, b.sh(random).await, "the random number generators were reseeded");
        assert_ne!(a.sh("hostname").await, b.sh("hostname").await);
        assert_ne!(a.token, b.token);

        a.sh("echo a > /root/note; echo 42 > /dev/shm/counter").await;
        b.sh("echo b > /root/note").await;
        assert_eq!(a.sh("cat /root/note /dev/shm/counter").await, "a\n42");
        assert_eq!(b.sh("cat /root/note /dev/shm/counter").await, "b\n41");
        assert_eq!(host.get(&info.id).unwrap().phase, Phase::Paused, "the original is as it was");

        for id in [&forks[0].id, &forks[1].id, &info.id] {
            host.kill(id).await.unwrap();
        }
    });
}

#[test]
fn a_resumed_guest_has_the_hosts_time_and_still_runs_what_ran() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("setsid bash -c 'while :; do date +%s.%N > /run/tick; sleep 0.05; done' >/dev/null 2>&1 &").await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        std::thread::sleep(Duration::from_secs(3));
        host.connect(&info.id, AN_HOUR).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        let seconds = |text: String| text.parse::<f64>().unwrap();
        let (before, after) = (seconds(guest.sh("cat /run/tick").await), seconds(guest.sh("sleep 2; cat /run/tick").await));
        assert!(after > before, "the loop goes on");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - after).abs() < 60.0, "guest {after}, host {now}");
        assert!(after > now - 3.0 - 60.0);
        host.kill(&info.id).await.unwrap();
    });
}
