//! What the reclaimer costs a busy guest. `cargo xtask bench reclaim` runs it; it prints and never fails by a figure.
//!
//! Two ways to see it: how much CPU time the same work takes, which is what matters and which noise hides; and an account of all that
//! the reclaimer can cost, which has no noise: CPU time of the agent, in which the kernel reclaims for it, of the kernel's own thread for
//! that, and pages that had to be read again.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint settings for tests reach only test functions, not what they share"
)]

use std::time::{Duration, Instant};

use dormouse_vm_tests::{Guest, block_on, host, sandbox, state_dir, vm_pid};
use rustix::process::Pid;

use crate::paired::{estimate, median};

/// How long pairs of turns are taken, in seconds, unless `DORMOUSE_BENCH_SECONDS` says otherwise, and how much each turn does.
const SECONDS: u64 = 150;
const UNITS: u32 = 20;
/// Wanted: least work for the same CPU time with the reclaimer, in comparison to without; and the most that it may cost by account.
const LEAST: f64 = 0.98;
const MOST: f64 = 0.02;
/// A guest that took no step for so long is done. More than the calm after which the first is taken.
const QUIET: Duration = Duration::from_secs(75);
const LOOK: Duration = Duration::from_secs(5);

/// Does units of work and says what they took: files that do not fit the CPU's caches are read and summed, new ones are written and
/// deleted, names are looked up.
const WORK: &str = r#"
import glob, os, sys, zlib
def kernel_thread():
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try: name, rest = open(stat).read().split("(", 1)[1].rsplit(")", 1)
        except OSError: continue
        if name == "kswapd0": return os.path.dirname(stat) + "/schedstat"
SWAPPER = kernel_thread()
def account():
    usage = dict(line.split() for line in open("/sys/fs/cgroup/system/cpu.stat"))
    pages = dict(line.split() for line in open("/proc/vmstat"))
    again = sum(int(pages[name]) for name in pages if name.startswith("workingset_refault"))
    swapper = int(open(SWAPPER).read().split()[0]) / 1e9 if SWAPPER else 0
    return [int(usage["usage_usec"]) / 1e6, swapper, again, int(pages["pgmajfault"])]
os.chdir("/root/bench")
before, begin = account(), os.times()
for unit in range(int(sys.argv[1])):
    for part in range(4):
        with open(f"set{(unit * 4 + part) % 24}", "rb") as f: zlib.crc32(f.read())
    with open("new", "wb") as f: f.write(b"x" * 262144)
    os.unlink("new")
    for name in range(200): os.stat(f"names/{name}")
end, after = os.times(), account()
print(end.user + end.system - begin.user - begin.system, *(b - a for a, b in zip(before, after)))
"#;

async fn prepare(guest: &Guest) {
    guest.sh("mkdir -p /root/bench/names; cd /root/bench; for i in $(seq 0 23); do head -c 1M /dev/urandom > set$i; done").await;
    guest.sh("cd /root/bench/names; touch $(seq 0 199); head -c 200M /dev/zero > /root/cold; sync").await;
    guest.sh(&format!("cat > /root/bench/work.py << 'END'\n{WORK}\nEND")).await;
}

/// CPU time of the VM's process on the host in seconds, thread by thread (`/proc/PID/task/TID/schedstat`).
fn host_seconds(vm: Pid) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", vm.as_raw_nonzero())).unwrap();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("schedstat")).ok());
    texts.map(|text| text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9).sum()
}

/// What a turn took: CPU time by the host's and by the guest's account, and of that of the agent and of the kernel's reclaiming thread;
/// pages that were read again, and faults that had to wait for a disk.
#[derive(Clone, Copy, Debug)]
struct Cost {
    host: f64,
    guest: f64,
    agent: f64,
    swapper: f64,
    again: f64,
    faults: f64,
}

async fn turn(guest: &Guest, vm: Pid, units: u32) -> Cost {
    let before = host_seconds(vm);
    let said = guest.sh(&format!("python3 /root/bench/work.py {units}")).await;
    let host = host_seconds(vm) - before;
    let figures: Vec<f64> = said.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let [guest, agent, swapper, again, faults] = figures[..] else { panic!("{said}") };
    Cost { host, guest, agent, swapper, again, faults }
}

/// One turn with the reclaimer and one without.
#[derive(Clone, Copy, Debug)]
struct Pair {
    with: Cost,
    without: Cost,
}

/// First one, then the other begins, so that what changes in the course of time is shared.
async fn pairs(guest: &Guest, vm: Pid) -> Vec<Pair> {
    let asked = std::env::var("DORMOUSE_BENCH_SECONDS").map(|seconds| seconds.parse().unwrap());
    let long = Duration::from_secs(asked.unwrap_or(SECONDS));
    let (begin, mut pairs) = (Instant::now(), Vec::<Pair>::new());
    while begin.elapsed() < long {
        let first = pairs.len() % 2 == 0;
        let mut costs = [None; 2];
        for reclaim in [first, !first] {
            guest.let_reclaim(reclaim).await;
            costs[usize::from(reclaim)] = Some(turn(guest, vm, UNITS).await);
        }
        let [Some(without), Some(with)] = costs else { panic!("two turns") };
        pairs.push(Pair { with, without });
    }
    pairs
}

fn tell_work(pairs: &[Pair]) {
    let tell = |what: &str, ratios: &[f64]| {
        let found = estimate(ratios);
        println!("    {what:26} {:12.3}   ({:.3} to {:.3})", found.median, found.least, found.most);
    };
    println!(
        "  work per CPU time, with / without: median of the pairs, and bounds that hold it with 95 %; wanted: at least {LEAST}"
    );
    println!("  and as a measure of noise, without: a turn / the one before");
    for (by, of) in [("host", (|cost| cost.host) as fn(&Cost) -> f64), ("guest", |cost| cost.guest)] {
        let ratios: Vec<f64> = pairs.iter().map(|pair| of(&pair.without) / of(&pair.with)).collect();
        let noise: Vec<f64> = pairs.windows(2).map(|two| of(&two[1].without) / of(&two[0].without)).collect();
        tell(&format!("by the {by}'s account"), &ratios);
        tell("  noise", &noise);
    }
}

fn tell_account(pairs: &[Pair]) {
    let sum = |of: fn(&Cost) -> f64| {
        let all = |costs: &mut dyn Iterator<Item = Cost>| costs.map(|cost| of(&cost)).sum::<f64>();
        [all(&mut pairs.iter().map(|pair| pair.with)), all(&mut pairs.iter().map(|pair| pair.without))]
    };
    let work = sum(|cost| cost.guest);
    let reclaim = sum(|cost| cost.agent + cost.swapper);
    println!("  by account, with and without: {:.1} s and {:.1} s of work", work[0], work[1]);
    for (what, of) in [
        ("CPU time of the agent, ms", (|cost| cost.agent * 1e3) as fn(&Cost) -> f64),
        ("of the kernel's thread, ms", |cost| cost.swapper * 1e3),
        ("pages read again", |cost| cost.again),
        ("faults that waited for a disk", |cost| cost.faults),
    ] {
        let [with, without] = sum(of);
        println!("    {what:30} {with:12.1} {without:12.1}");
    }
    let share = reclaim[0] / work[0] - reclaim[1] / work[1];
    println!("    what it costs, of the work's CPU time {share:12.5}   (wanted: at most {MOST})");
    println!("    all CPU time of the agent with it     {:12.5}   (an upper bound of that)", reclaim[0] / work[0]);
}

#[test]
#[ignore = "a bench: cargo xtask bench reclaim"]
fn the_cost_for_a_busy_guest() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let vm = vm_pid(&state_dir(), &info.id);
        prepare(&guest).await;
        guest.sh("cat /root/cold > /dev/null").await;
        turn(&guest, vm, UNITS).await;
        let steps = async || guest.metrics().await["dormouse_reclaim_steps_total"];
        let before = steps().await;
        let pairs = pairs(&guest, vm).await;
        let taken = steps().await - before;
        println!("a busy guest, {} pairs of turns of {UNITS} units each, with and without the reclaimer", pairs.len());
        tell_work(&pairs);
        tell_account(&pairs);
        println!("  steps while busy {taken:26}   (wanted: 0)");
        after_an_idle_time(&guest, vm).await;
        host().await.kill(&info.id).await.unwrap();
    });
}

/// The same work before and after an idle time in which all that is cold was taken.
async fn after_an_idle_time(guest: &Guest, vm: Pid) {
    guest.let_reclaim(true).await;
    let steps = async || guest.metrics().await["dormouse_reclaim_steps_total"];
    let begin = steps().await;
    let (mut seen, mut since) = (begin, Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(LOOK).await;
        let now = steps().await;
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
    }
    let idle = guest.metrics().await;
    let mut turns = Vec::new();
    for _ in 0..4 {
        turns.push(turn(guest, vm, UNITS).await);
    }
    let after = guest.metrics().await;
    let later: Vec<f64> = turns[1..].iter().map(|turn| turn.host).collect();
    println!("the same guest after an idle time with {} steps", seen - begin);
    println!(
        "  work per CPU time, first turn / later ones, by the host's account {:.3}",
        median(&later) / turns[0].host
    );
    let again =
        (after["dormouse_reclaim_refaulted_bytes_total"] - idle["dormouse_reclaim_refaulted_bytes_total"]) / 1048576.0;
    println!("  read again {again:.2} MiB in all, {} pages in the first turn", turns[0].again);
}
