//! What the guest agent costs and how quick it is, as a plain process on the loopback.

mod running;
mod starts;
mod transfer;

use std::time::Duration;

use anyhow::Context;
use dormouse_guest_mem::Bytes;
use running::RunningAgent;
use tokio::runtime::Builder;

/// Wanted: most memory when idle, and under the load of this bench.
const MOST_IDLE: Bytes = Bytes(8 << 20);
const MOST_LOADED: Bytes = Bytes(32 << 20);
/// Wanted: most CPU when idle, in percent of one core.
const MOST_IDLE_CPU: f64 = 0.1;
/// How long idleness is watched, and how long after the start: until then the agent looks around more often. It also does when
/// other programs open and close ports, which are its guest's to it: on a machine where tests run it is not idle.
const IDLE: Duration = Duration::from_secs(20);
const SETTLED: Duration = Duration::from_secs(3);

/// Prints the figures beside what is wanted. Only a request that fails fails: a busy machine must not decide a test.
pub(crate) fn run() -> anyhow::Result<()> {
    let agent = RunningAgent::start()?;
    println!("agent, {} static binary, as a plain process on the loopback", agent.binary_size()?);
    idle(&agent)?;
    Builder::new_current_thread().enable_all().build()?.block_on(starts::measure(&agent))?;
    transfer::measure(&agent)?;
    let peak = agent.peak_memory()?;
    println!("memory");
    println!("  most resident in all      {:8.2} MiB  (wanted: at most {MOST_LOADED})", peak.as_mib());
    Ok(())
}

fn idle(agent: &RunningAgent) -> anyhow::Result<()> {
    std::thread::sleep(SETTLED);
    let before = agent.cpu_time()?;
    std::thread::sleep(IDLE);
    let used = agent.cpu_time()?.checked_sub(before).context("CPU time went backward")?;
    println!("idle for {IDLE:?}");
    println!("  resident                  {:8.2} MiB  (wanted: at most {MOST_IDLE})", agent.memory()?.as_mib());
    let percent = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("  CPU                       {percent:8.3} %    (wanted: at most {MOST_IDLE_CPU})");
    Ok(())
}
