//! Short processes by the thousand, and many at once.

use std::time::{Duration, Instant};

use dormouse_agent_core::Durations;
use dormouse_agent_proto::process::{ProcessConfig, StartRequest};
use futures_util::future::join_all;

use crate::holdings::{alone, children, descriptors, resident};
use crate::support::{agent_with, eventually};

/// More than this is not left behind by noise of the allocator.
const NOISE: usize = 6 << 20;
const COUNT: usize = 10_000;

fn nothing() -> StartRequest {
    let config = ProcessConfig { cmd: "/bin/true".into(), ..Default::default() };
    StartRequest { process: config.into(), stdin: Some(true), ..Default::default() }
}

#[tokio::test]
async fn ten_thousand_processes_in_a_row_leave_nothing_behind() {
    let _alone = alone().await;
    let durations = Durations { late_connect: Duration::from_millis(100), ..Durations::default() };
    let agent = agent_with(durations, false).await;
    for _ in 0..100 {
        agent.run(nothing()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (files, memory) = (descriptors(), resident());
    let mut took = Vec::new();
    for _ in 0..COUNT {
        let begin = Instant::now();
        assert_eq!(agent.run(nothing()).await.unwrap().exit_code, Some(0));
        took.push(begin.elapsed());
    }
    took.sort();
    eventually("all children are reaped", async || children().is_empty()).await;
    eventually("all descriptors are closed", async || descriptors() <= files).await;
    let grown = resident().saturating_sub(memory);
    println!("{COUNT} processes: p50 {:?}, p99 {:?}, {grown} bytes grown", took[COUNT / 2], took[COUNT * 99 / 100]);
    assert!(grown < NOISE, "{grown} bytes are left behind");
}

#[tokio::test]
async fn two_hundred_processes_start_at_once() {
    let _alone = alone().await;
    let agent = agent_with(Durations::default(), false).await;
    // The first process brings what all share.
    agent.sh("true").await;
    let before = descriptors();
    let ran = join_all((0..200).map(|_| agent.sh("echo $$"))).await;
    for one in &ran {
        assert_eq!((one.stdout.trim(), one.exit_code), (one.pid.to_string().as_str(), Some(0)));
    }
    eventually("all children are reaped", async || children().is_empty()).await;
    // The client keeps connections for later, two descriptors each in this program.
    eventually("pipes are closed", async || descriptors() <= before + 2 * 200).await;
}
