//! Processes from start to end.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dormouse_agent_proto::client::AgentRpc;
use dormouse_agent_proto::process::process_event::Event;
use dormouse_agent_proto::process::{ProcessConfig, StartRequest};

use super::RunningAgent;

const PROGRAM: &str = "/bin/true";
const IN_A_ROW: usize = 500;
const AT_ONCE: usize = 200;
/// Wanted: longest time from the request to the end event, for half of the starts.
const MOST_MS: f64 = 3.0;

pub(super) async fn measure(agent: &RunningAgent) -> anyhow::Result<()> {
    let rpc = Arc::new(AgentRpc::new(format!("http://{}", agent.address).parse()?, [])?);
    let before = agent.cpu_time()?;
    let mut took = Vec::with_capacity(IN_A_ROW);
    for _ in 0..IN_A_ROW {
        let begin = Instant::now();
        start(&rpc).await?;
        took.push(begin.elapsed());
    }
    let cpu = agent.cpu_time()?.saturating_sub(before);
    let alone = without_agent()?;
    took.sort_unstable();
    println!("Process.Start of {PROGRAM}, from the request to its end, {IN_A_ROW} in a row");
    let half = percentile(&took, 50);
    println!("  half of them within       {:8.2} ms   (wanted: at most {MOST_MS})", millis(half));
    println!("  99 of 100 within          {:8.2} ms", millis(percentile(&took, 99)));
    println!("  times a plain spawn       {:8.2}", half.as_secs_f64() / alone.as_secs_f64().max(1e-9));
    println!("  agent's CPU for each      {:8.2} ms", millis(cpu) / IN_A_ROW as f64);
    at_once(&rpc).await
}

async fn at_once(rpc: &Arc<AgentRpc>) -> anyhow::Result<()> {
    let begin = Instant::now();
    let running: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let rpc = Arc::clone(rpc);
            tokio::spawn(async move { start(&rpc).await })
        })
        .collect();
    let mut failed = 0;
    for task in running {
        failed += usize::from(task.await?.is_err());
    }
    println!(
        "  {AT_ONCE} at once: failures     {failed:8}      (wanted: 0), all ended after {:.0} ms",
        millis(begin.elapsed())
    );
    if failed > 0 {
        bail!("{failed} of {AT_ONCE} starts at once failed");
    }
    Ok(())
}

async fn start(rpc: &AgentRpc) -> anyhow::Result<()> {
    let process = ProcessConfig { cmd: PROGRAM.into(), ..Default::default() };
    let request = StartRequest { process: process.into(), stdin: Some(false), ..Default::default() };
    let mut events = rpc.process.start(request).await?;
    let mut code = None;
    while let Some(message) = events.message().await? {
        if let Some(Event::End(end)) = message.to_owned_message().event.into_option().and_then(|event| event.event) {
            code = Some(end.exit_code);
        }
    }
    match code.context("the stream had no end event")? {
        0 => Ok(()),
        code => bail!("{PROGRAM} ended with {code}"),
    }
}

/// What the machine needs for the same program without an agent.
fn without_agent() -> anyhow::Result<Duration> {
    let mut took = Vec::with_capacity(IN_A_ROW);
    for _ in 0..IN_A_ROW {
        let begin = Instant::now();
        Command::new(PROGRAM).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    Ok(percentile(&took, 50))
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
