//! Memory that an idle guest does not need, and what becomes of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint settings for tests reach only test functions, not what they share"
)]

use std::time::{Duration, Instant};

use dormouse_guest_mem::Bytes;
use dormouse_lifecycle::PauseOptions;
use dormouse_vm_tests::{Guest, block_on, host, sandbox};

const MIB: f64 = (1 << 20) as f64;
/// How long the idle guest may take under emulation, where a byte costs twenty times what it does elsewhere and the share of the
/// CPU is the same.
const PATIENCE: Duration = Duration::from_secs(1200);
/// A time without a step after which nothing more is to be expected.
const QUIET: Duration = Duration::from_secs(150);

/// Files that are read once, files that are in use, and ten thousand names and inodes.
const WORKLOAD: &str = "
    cd /root; head -c 64M /dev/urandom > cold; head -c 16M /dev/urandom > warm
    python3 -c '
import os
for i in range(100):
    os.mkdir(f\"tree{i}\")
    for j in range(100): open(f\"tree{i}/{j}\", \"w\").write(\"x\")'
    sync; echo 3 > /proc/sys/vm/drop_caches
    for i in 1 2 3; do cat warm > /dev/null; done
    cat cold > /dev/null; find . -type f -size +1 > /dev/null";

fn kind(kind: &str) -> String {
    format!("dormouse_reclaim_freed_bytes_total{{kind=\"{kind}\"}}")
}

/// Waits until the reclaimer has done all that it wants to do.
async fn settled(guest: &Guest) {
    let begin = Instant::now();
    let (mut steps, mut since) = (0.0, None);
    loop {
        let figures = guest.metrics().await;
        let now = figures["dormouse_reclaim_steps_total"];
        if now > steps {
            (steps, since) = (now, Some(Instant::now()));
        }
        if since.is_some_and(|since| since.elapsed() > QUIET) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "not done: {figures:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// How much of a file is in memory, in bytes.
async fn cached(guest: &Guest, file: &str) -> f64 {
    guest.sh(&format!("fincore -b -n -o RES /root/{file}")).await.parse().unwrap()
}

#[test]
fn an_idle_guest_gets_smaller_and_keeps_what_is_warm_and_its_snapshot_is_smaller() {
    block_on(async {
        let host = host().await;
        let ((info, guest), (other_info, other)) = (sandbox().await, sandbox().await);
        other.let_reclaim(false).await;
        tokio::join!(guest.sh(WORKLOAD), other.sh(WORKLOAD));
        let before = guest.metrics().await;
        settled(&guest).await;
        let after = guest.metrics().await;
        let change = |name: &str| (after[name] - before[name]) / MIB;
        println!(
            "idle guest: free {:+.1} MiB, files {:.1} MiB and names {:.1} MiB taken in {} steps with {:.2} s of CPU; \
             {:.1} MiB read again",
            change("dormouse_memory_bytes{class=\"free\"}"),
            after[&kind("files")] / MIB,
            after[&kind("names")] / MIB,
            after["dormouse_reclaim_steps_total"],
            after["dormouse_reclaim_cpu_seconds_total"],
            after["dormouse_reclaim_refaulted_bytes_total"] / MIB,
        );
        assert_eq!(other.metrics().await["dormouse_reclaim_steps_total"], 0.0, "turned off");
        let (cold, warm) = (cached(&guest, "cold").await, cached(&guest, "warm").await);
        println!("in memory: cold file {:.1} of 64 MiB, warm file {:.1} of 16 MiB", cold / MIB, warm / MIB);
        assert!(cold < 32.0 * MIB, "the cold file is mostly gone");
        assert!(warm > 14.0 * MIB, "the warm file is there");
        assert!(after[&kind("names")] > 8.0 * MIB, "and names are gone");

        let kept = async |id| host.inspect(&host.pause(id, PauseOptions::default()).await.unwrap()).await.unwrap().kept;
        let (with, without): (Bytes, Bytes) = (kept(&info.id).await, kept(&other_info.id).await);
        println!("its snapshot, page cache kept: {with}, without the reclaimer {without}");
        assert!(with.0 + (8 << 20) < without.0);
        for id in [&info.id, &other_info.id] {
            host.kill(id).await.unwrap();
        }
    });
}

#[test]
fn the_reclaimer_is_back_after_a_restore() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("cd /root; head -c 48M /dev/urandom > cold; sync").await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.connect(&info.id, Duration::from_secs(3600)).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        guest.sh("cat /root/cold > /dev/null").await;
        let begin = Instant::now();
        while guest.metrics().await[&kind("files")] < MIB {
            assert!(begin.elapsed() < PATIENCE, "{:?}", guest.metrics().await);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        host.kill(&info.id).await.unwrap();
    });
}
