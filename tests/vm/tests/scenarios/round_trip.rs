//! What a guest has is what it has again: across pauses, in copies, byte for byte.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageClass, PageIndex, PageSet, RamLayout, RamSource};
use dormouse_image::{Capture, DirPacks, Image, PageKind, StoreOptions, account};
use dormouse_introspect::{Request, survey};
use dormouse_lifecycle::{Connected, KernelLine, PauseOptions, Phase};
use dormouse_vm_tests::{Booted, Guest, Machine, block_on, differences, host, ram_bytes, sandbox, vmm};
use dormouse_vmm::Vmm;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Holds 200 MiB of random bytes in anonymous memory and, as often as it is asked, writes their hash to a file.
const KEEPER: &str = r#"
import hashlib, os, signal, time
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
        .sh("rm -f /run/keeper.sum; pkill -USR1 -f '[k]eeper.py'; for i in $(seq 600); do [ -s /run/keeper.sum ] && break; sleep 0.1; done; cat /run/keeper.sum")
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
        let machine = Machine { kernel: KernelLine::Stable, five_level_paging: true, ram: Bytes::mib(512) };
        let first = Booted::new(&machine).await;
        let guest = first.guest();
        guest
            .sh("head -c 40M /dev/urandom > /dev/shm/live; head -c 60M /dev/urandom > /dev/shm/dead; rm /dev/shm/dead")
            .await;
        let note = guest.sh("cat /sys/kernel/vmcoreinfo").await.parse().unwrap();

        first.vm.pause().await.unwrap();
        let state = first.vm.save_device_state("saved.state").await.unwrap();
        let layout = first.vm.layout();
        let ram = first.vm.paused_ram().unwrap();
        let paused = ram_bytes(&*ram);
        let free = survey(&Request { ram: &*ram, layout, note: Some(note), mem_free: None }).unwrap().free;
        let base = first.dir().join("base.ram");
        let (kept, left_out) = store_and_unpack(&*ram, layout, &free, &base);
        println!("{} pages, {} stored, {} left out as free", layout.pages(), kept, left_out.len());
        assert!(left_out.len() > 10_000, "nothing was left out");
        drop(ram);
        first.vm.kill().await.unwrap();

        // What the next VM finds in its RAM before its first instruction.
        let second = vmm().await.restore(first.dir(), first.vm.spec(), &state, &base).await.unwrap();
        let restored = ram_bytes(&*second.paused_ram().unwrap());
        second.kill().await.unwrap();
        let differing = differences(&paused, &restored, &left_out);
        assert!(
            only_the_generation_id(&paused, &restored, &differing),
            "RAM differs outside of the free pages: {differing:?}"
        );
        let zero = vec![0; paused.len()];
        let not_free = PageSet::new(layout.pages());
        let still_there =
            differences(&zero, &restored, &not_free).iter().filter(|page| left_out.contains(**page)).count();
        assert_eq!(still_there, 0, "pages left out as free come back as zero");
    });
}

/// Whether nothing differs but the VM generation id: 16 bytes that the VMM writes anew for each restored VM, so that
/// the guest's kernel knows (docs/specs/vmgenid.rst of QEMU).
fn only_the_generation_id(paused: &[u8], restored: &[u8], differing: &[PageIndex]) -> bool {
    let [page] = differing else { return differing.is_empty() };
    let at = usize::try_from(page.offset()).unwrap();
    let bytes = (at..at + PAGE_SIZE).filter(|i| paused[*i] != restored[*i]).collect::<Vec<_>>();
    let span = bytes.last().unwrap() - bytes.first().unwrap();
    println!("the VM generation id differs, as it must: {} bytes", bytes.len());
    span < 16
}

/// Writes the image of `ram` and unpacks it to `to`; gives how many pages it stores and which it left out as free.
fn store_and_unpack(ram: &dyn RamSource, layout: &RamLayout, free: &PageSet, to: &Path) -> (u32, PageSet) {
    let open = |path: &Path| fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let (index, pack) = (to.with_extension("idx"), to.with_extension("part"));
    let class_of = |_| PageClass::Unknown;
    let capture = Capture { ram, layout, free: Some(free), class_of: &class_of, disks: &[], parent: None };
    let accounting = account(&capture, 2, &()).unwrap();
    let stored = accounting.store(ram, &open(&pack), &open(&index), StoreOptions::default(), &()).unwrap();
    let packs = DirPacks::new(to.parent().unwrap().to_owned());
    fs::rename(&pack, packs.path(&stored.pack.as_ref().unwrap().named().id)).unwrap();
    let image = Image::open(&index, Some(&stored.root)).unwrap();
    image.materialise(&packs, &[], &open(to), 2, &()).unwrap();
    image.verify(&packs, &[], 2, &()).unwrap();
    let mut left_out = PageSet::new(layout.pages());
    for run in image.runs().filter(|run| run.kind == PageKind::Free) {
        left_out.insert_range(run.pages);
    }
    (image.summary().pages.data, left_out)
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
            assert_eq!(
                guest.sh("cat /proc/sys/kernel/random/boot_id").await,
                boot_id,
                "memory went on, nothing booted"
            );
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
        guest.sh("setsid bash -c 'while :; do date +%s.%N > /run/tick.new; mv /run/tick.new /run/tick; sleep 0.05; done' >/dev/null 2>&1 & sleep 2").await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        std::thread::sleep(Duration::from_secs(3));
        host.connect(&info.id, AN_HOUR).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        let seconds = |text: String| text.parse::<f64>().unwrap();
        let (before, after) =
            (seconds(guest.sh("cat /run/tick").await), seconds(guest.sh("sleep 2; cat /run/tick").await));
        assert!(after > before, "the loop goes on");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - after).abs() < 60.0, "guest {after}, host {now}");
        assert!(after > now - 3.0 - 60.0);
        host.kill(&info.id).await.unwrap();
    });
}
