//! User processes that take all they can get: the agent of a real guest goes on answering.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use dormouse_vm_tests::{Guest, block_on, host, sandbox, status_of};

/// One second is what the agent promises on hardware with KVM. Under emulation on a shared machine everything, the kernel's own
/// reclaim and its OOM killer too, is ten to fifty times slower, so only an agent that hangs fails here; the figure is printed.
const PATIENCE: Duration = Duration::from_secs(45);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a fork bomb may take to reach its bound, under emulation.
const BURNING: Duration = Duration::from_secs(240);
/// The bound while the bomb burns, so that it is this one that it meets and not that of memory, which has a scenario of its own.
const PROCESSES: u64 = 1000;
/// Questions while the bomb burns at its bound.
const QUESTIONS: usize = 50;
/// Doubles itself without a shell's own waiting in between, and goes on when it is refused.
const BOMB: &str = "python3 -c '
import os
while True:
    try: os.fork()
    except OSError: pass
'";

/// Asks for the agent's health on a connection of its own, and tells how long the answer took.
async fn health(guest: &Guest) -> Duration {
    let begin = Instant::now();
    let agent = guest.base.trim_start_matches("http://").parse().unwrap();
    let answer = status_of(agent, "GET", "/health", "", PATIENCE).await;
    assert_eq!(answer.expect("the agent answers in time"), 204);
    begin.elapsed()
}

/// Asks again and again while `work` lasts. What it gave, how often was asked, and the longest answer.
async fn health_during<T>(guest: &Guest, work: impl Future<Output = T>) -> (T, usize, Duration) {
    let mut work = pin!(work);
    let (mut asked, mut worst) = (0, Duration::ZERO);
    loop {
        worst = worst.max(health(guest).await);
        asked += 1;
        tokio::select! {
            done = &mut work => return (done, asked, worst),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The number behind `name` in an events file of a cgroup. A shell that only runs `cat` becomes it: no fork is needed.
async fn events(guest: &Guest, file: &str, name: &str) -> u64 {
    let content = guest.run_on_terminal(&format!("cat /sys/fs/cgroup/{file}")).await.stdout;
    let content = String::from_utf8_lossy(&content).into_owned();
    let value = content.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {file}: {content:?}"))
}

/// How often user processes were refused another process. Linux before 6.11 counts a refusal in the cgroup of the process
/// that asked, later ones in that whose bound it was (`kernel/cgroup/pids.c`).
async fn refused(guest: &Guest) -> u64 {
    events(guest, "sandbox/user/pids.events", "max").await + events(guest, "sandbox/pids.events", "max").await
}

/// Waits until the bomb has been refused at least once.
async fn bound_reached(guest: &Guest) -> u64 {
    let begin = Instant::now();
    loop {
        let times = refused(guest).await;
        if times > 0 {
            return times;
        }
        assert!(begin.elapsed() < BURNING, "the bomb never reached its bound");
        tokio::time::sleep(PAUSE).await;
    }
}

#[test]
fn the_agent_and_what_users_run_live_in_bounded_cgroups() {
    block_on(async {
        let (info, guest) = sandbox().await;
        assert_eq!(guest.sh("cat /proc/1/cgroup").await, "0::/system");
        assert_eq!(guest.sh("cat /proc/self/cgroup").await, "0::/sandbox/user");
        let on_terminal = guest.run_on_terminal("cat /proc/self/cgroup").await.stdout;
        assert_eq!(String::from_utf8_lossy(&on_terminal).trim(), "0::/sandbox/pty");
        assert_eq!(guest.sh("cat /proc/1/oom_score_adj /proc/self/oom_score_adj").await, "-1000\n0");
        let of = async |file: &str| guest.sh(&format!("cat /sys/fs/cgroup/{file}")).await;
        assert_eq!((of("system/cpu.weight").await, of("sandbox/cpu.weight").await), ("10000".into(), "100".into()));
        let total = guest.sh("awk '/MemTotal/{print $2*1024}' /proc/meminfo").await.parse::<u64>().unwrap();
        let most = of("sandbox/memory.max").await.parse::<u64>().unwrap();
        let processes = of("sandbox/pids.max").await;
        println!("users get {most} of {total} bytes and {processes} processes");
        assert!(most < total && processes.parse::<u64>().is_ok());
        host().await.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_fork_bomb_does_not_silence_the_agent() {
    block_on(async {
        let (info, guest) = sandbox().await;
        guest.sh(&format!("echo {PROCESSES} > /sys/fs/cgroup/sandbox/pids.max")).await;
        // In the background, so that the command ends; a bomb that cannot be lit at all would be no test.
        guest.sh(&format!("{BOMB} >/dev/null 2>&1 &")).await;
        let (refused, _, _) = health_during(&guest, bound_reached(&guest)).await;
        let mut worst = Duration::ZERO;
        for _ in 0..QUESTIONS {
            worst = worst.max(health(&guest).await);
        }
        println!("fork bomb: {refused} forks refused; of {QUESTIONS} answers the slowest came after {worst:?}");
        // A terminal has a cgroup of its own, so that there is a way to get rid of it; no fork is needed.
        guest.run_on_terminal("echo 1 > /sys/fs/cgroup/sandbox/user/cgroup.kill").await;
        assert_eq!(guest.sh("echo works").await, "works");
        host().await.kill(&info.id).await.unwrap();
    });
}

#[test]
fn when_memory_runs_out_user_processes_die_and_the_agent_lives() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let before = guest.sh("cat /proc/sys/kernel/random/boot_id").await;
        // Each `tail` keeps all it reads, since no line ever ends.
        let hogs = guest.run("for i in 1 2 3; do head -c 100G /dev/zero | tail & done; wait");
        let (_, asked, worst) = health_during(&guest, hogs).await;
        let killed = events(&guest, "sandbox/memory.events", "oom_kill").await;
        println!("memory exhausted: {asked} answers, the slowest after {worst:?}; {killed} user processes killed");
        assert!(killed >= 3, "{killed} were killed");
        assert_eq!(guest.sh("awk '/^oom_kill /{print $2}' /sys/fs/cgroup/system/memory.events").await, "0");
        assert_eq!(guest.sh("cat /proc/sys/kernel/random/boot_id").await, before);
        host().await.kill(&info.id).await.unwrap();
    });
}
