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

/// Holds two connections and says how they ended: one to an address that the agent does not know as its guest's, which is as good as
/// another machine, and one within the guest.
const CALLER: &str = r#"
import errno, socket
def connected(source, target):
    server = socket.create_server(target)
    client = socket.create_connection(target, source_address=source)
    return client, server.accept()[0]
outside, far_end = connected(('10.0.2.15', 0), ('10.9.9.1', 7000))
inside, near_end = connected(('127.0.0.1', 0), ('127.0.0.1', 7001))
open('/run/connected', 'w').close()
try:
    outcome = str(outside.recv(1))
except OSError as e:
    outcome = errno.errorcode[e.errno]
near_end.send(b'alive')
with open('/run/outcome', 'w') as f: f.write(outcome + ' ' + inside.recv(5).decode())
"#;

#[test]
fn a_connection_to_outside_that_a_snapshot_caught_ends_at_the_restore_and_one_within_the_guest_lives() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let wait_for =
            |file: &str| format!("for i in $(seq 200); do [ -e {file} ] && break; sleep 0.1; done; cat {file}");
        guest.sh(&format!("ip addr add 10.9.9.1/32 dev lo; cat > /run/caller.py <<'END'\n{CALLER}\nEND")).await;
        guest.sh(&format!("setsid python3 /run/caller.py >/run/said 2>&1 & {}", wait_for("/run/connected"))).await;
        let host = host().await;
        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.connect(&info.id, Duration::from_secs(600)).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        assert_eq!(guest.sh(&wait_for("/run/outcome")).await, "ECONNABORTED alive");
        host.kill(&info.id).await.unwrap();
    });
}
