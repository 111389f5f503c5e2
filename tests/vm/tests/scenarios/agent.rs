//! The agent as PID 1 of a real guest.

use std::time::Duration;

use dormouse_lifecycle::PauseOptions;
use dormouse_vm_tests::{Guest, binary, block_on, host, sandbox};

#[test]
fn the_agent_is_small_on_disk_and_in_memory() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let size = std::fs::metadata(binary("dormouse-agent")).unwrap().len();
        let rss = guest.sh("awk '/VmRSS/{print $2}' /proc/1/status").await.parse::<u64>().unwrap() << 10;
        println!("agent: {size} bytes on disk (at most 5000000), {rss} bytes resident (at most {})", 8 << 20);
        assert!(size <= 5_000_000);
        assert!(rss <= 8 << 20);
        host().await.kill(&info.id).await.unwrap();
    });
}

#[test]
fn freed_pages_on_per_cpu_lists_are_not_stored() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        let before = host.pause(&info.id, PauseOptions::default()).await.unwrap();
        let before = host.inspect(&before).await.unwrap().kept;
        host.connect(&info.id, Duration::from_secs(600)).await.unwrap();
        drop(guest);
        let guest = Guest::of(host, &info.id).await;
        guest.sh("head -c 30M /dev/urandom > /dev/shm/waste; rm /dev/shm/waste").await;
        let after = host.pause(&info.id, PauseOptions::default()).await.unwrap();
        let after = host.inspect(&after).await.unwrap().kept;
        println!("kept {before}, and {after} after 30 MiB were written and deleted");
        assert!(after.0 < before.0 + (12 << 20), "kept {before} before and {after} afterwards");
        host.kill(&info.id).await.unwrap();
    });
}

#[test]
fn zombies_do_not_pile_up() {
    block_on(async {
        let (info, guest) = sandbox().await;
        guest.sh("for i in $(seq 200); do (setsid sleep 0 &) ; done; sleep 2").await;
        assert_eq!(guest.sh("ps -eo stat= | grep -c '^Z' || true").await, "0");
        host().await.kill(&info.id).await.unwrap();
    });
}
