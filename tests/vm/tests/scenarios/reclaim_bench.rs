//! What the reclaimer costs a busy guest. `cargo xtask bench reclaim` runs it; it prints and never fails by a figure.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint settings for tests reach only test functions, not what they share"
)]

use std::time::Duration;

use dormouse_vm_tests::{Guest, block_on, host, sandbox, state_dir, vm_pid};
use rustix::process::Pid;

/// Turns of each kind, and how much each of them does.
const TURNS: usize = 6;
const UNITS: u32 = 60;
/// Wanted: least work for the same CPU time with the reclaimer, in comparison to without.
const LEAST: f64 = 0.98;

/// Does units of work and says how much CPU time they took: files that do not fit the CPU's caches are read and summed, new ones
/// are written and deleted, names are looked up.
const WORK: &str = r#"
import os, sys, zlib
os.chdir("/root/bench")
for unit in range(int(sys.argv[1])):
    for part in range(4):
        with open(f"set{(unit * 4 + part) % 24}", "rb") as f: zlib.crc32(f.read())
    with open("new", "wb") as f: f.write(b"x" * 262144)
    os.unlink("new")
    for name in range(200): os.stat(f"names/{name}")
times = os.times()
print(times.user + times.system)
"#;

async fn prepare(guest: &Guest) {
    guest.sh("mkdir -p /root/bench/names; cd /root/bench; for i in $(seq 0 23); do head -c 1M /dev/urandom > set$i; done").await;
    guest.sh("cd /root/bench/names; touch $(seq 0 199); head -c 200M /dev/zero > /root/cold; sync").await;
    guest.sh(&format!("cat > /root/bench/work.py << 'END'\n{WORK}\nEND")).await;
}

/// CPU time of the VM's process on the host (`proc_pid_stat(5)`, fields utime and stime), in ticks.
fn host_ticks(vm: Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", vm.as_raw_nonzero())).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<f64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    fields[11] + fields[12]
}

/// CPU time by the guest's and by the host's account.
#[derive(Clone, Copy, Debug)]
struct Cost {
    guest: f64,
    host: f64,
}

async fn turn(guest: &Guest, vm: Pid) -> Cost {
    let before = host_ticks(vm);
    let said = guest.sh(&format!("python3 /root/bench/work.py {UNITS}")).await;
    Cost { guest: said.parse().unwrap(), host: host_ticks(vm) - before }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    f64::midpoint(values[middle], values[values.len() - 1 - middle])
}

fn ratio(with: &[Cost], without: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    median(without.iter().map(&of).collect()) / median(with.iter().map(&of).collect())
}

#[test]
#[ignore = "a bench: cargo xtask bench reclaim"]
fn the_cost_for_a_busy_guest() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let vm = vm_pid(&state_dir(), &info.id);
        prepare(&guest).await;
        guest.sh("cat /root/cold > /dev/null").await;
        turn(&guest, vm).await;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let before = guest.metrics().await;
        for round in 0..TURNS {
            // First one, then the other begins, so that what changes in the course of time is shared.
            for reclaim in [round % 2 == 0, round % 2 != 0] {
                guest.let_reclaim(reclaim).await;
                let cost = turn(&guest, vm).await;
                if reclaim { with.push(cost) } else { without.push(cost) }
            }
        }
        let after = guest.metrics().await;
        let steps = after["dormouse_reclaim_steps_total"] - before["dormouse_reclaim_steps_total"];
        println!("a busy guest, {TURNS} turns of {UNITS} units each with and without the reclaimer, by turns");
        println!("  work per CPU time, with / without     wanted: at least {LEAST}");
        println!("    by the host's account     {:8.3}", ratio(&with, &without, |cost| cost.host));
        println!("    by the guest's account    {:8.3}", ratio(&with, &without, |cost| cost.guest));
        println!("    without, first half / second half, by the host's account: what is noise");
        let (first, second) = without.split_at(TURNS / 2);
        println!("                              {:8.3}", ratio(second, first, |cost| cost.host));
        println!("  steps while busy            {steps:8}   (wanted: 0)");

        after_an_idle_time(&guest, vm).await;
        host().await.kill(&info.id).await.unwrap();
    });
}

/// The same work before and after an idle time in which all that is cold was taken.
async fn after_an_idle_time(guest: &Guest, vm: Pid) {
    guest.let_reclaim(true).await;
    let steps = async || guest.metrics().await["dormouse_reclaim_steps_total"];
    let begin = steps().await;
    let mut seen = begin;
    // Two minutes without a step: done, or there is nothing to do.
    for mut quiet in [0] {
        while quiet < 24 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now = steps().await;
            (quiet, seen) = if now > seen { (0, now) } else { (quiet + 1, seen) };
        }
    }
    let idle = guest.metrics().await;
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.push(turn(guest, vm).await);
    }
    let after = guest.metrics().await;
    let change = |name: &str| (after[name] - idle[name]) / f64::from(1 << 20);
    println!("the same guest after an idle time with {} steps", seen - begin);
    println!("  work per CPU time, first turn / later ones, by the host's account");
    println!("                              {:8.3}", ratio(&turns[..1], &turns[1..], |cost| cost.host));
    println!("  read again                  {:8.2} MiB", change("dormouse_reclaim_refaulted_bytes_total"));
}
