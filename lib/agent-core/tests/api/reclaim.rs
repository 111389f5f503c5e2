//! The reclaimer and what must not run beside it.

use std::time::Duration;

use dormouse_agent_core::Durations;

use crate::support::{TestAgent, agent_with, eventually};

/// Looks often and soon finds the guest calm.
async fn eager() -> TestAgent {
    let durations = Durations {
        reclaim_look: Duration::from_millis(5),
        reclaim_calm: Duration::from_millis(20),
        ..Durations::default()
    };
    let agent = agent_with(durations, true).await;
    agent.kernel.set_cold_files(1 << 40);
    agent
}

/// Waits until `count` more steps have begun.
async fn steps(agent: &TestAgent, count: usize) {
    let enough = agent.kernel.reclaim_steps() + count;
    eventually("steps", async || agent.kernel.reclaim_steps() >= enough).await;
}

async fn sees_no_step(agent: &TestAgent) {
    let before = agent.kernel.reclaim_steps();
    // Dozens of looks.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(agent.kernel.reclaim_steps(), before);
}

#[tokio::test]
async fn nothing_is_reclaimed_from_prepare_until_abort_or_init() {
    let agent = eager().await;
    for end in ["/snapshot/abort", "/init"] {
        steps(&agent, 3).await;
        assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
        sees_no_step(&agent).await;
        assert_eq!(agent.post(end, "").await.status, 204);
        steps(&agent, 3).await;
    }
}

#[tokio::test]
async fn nothing_is_reclaimed_while_users_are_frozen() {
    let agent = eager().await;
    steps(&agent, 1).await;
    assert_eq!(agent.post("/freeze", "").await.status, 204);
    sees_no_step(&agent).await;
    assert_eq!(agent.post("/unfreeze", "").await.status, 204);
    steps(&agent, 1).await;
}

#[tokio::test]
async fn a_prepare_waits_for_a_step_that_has_begun() {
    let agent = eager().await;
    let gate = agent.kernel.hold_next_step();
    steps(&agent, 1).await;
    let held = agent.kernel.reclaim_steps();
    let mut preparing = std::pin::pin!(agent.post("/snapshot/prepare", ""));
    assert!(tokio::time::timeout(Duration::from_millis(300), preparing.as_mut()).await.is_err(), "it waits");
    drop(gate);
    assert_eq!(preparing.await.status, 204);
    assert_eq!(agent.kernel.reclaim_steps(), held);
}

#[tokio::test]
async fn a_step_that_hangs_fails_the_prepare_after_its_deadline_and_not_later_ones() {
    let agent = eager().await;
    let gate = agent.kernel.hold_next_step();
    steps(&agent, 1).await;
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 503);
    assert_eq!(agent.get("/files?path=missing").await.status, 404, "it runs on");
    // The step still hangs, but a snapshot does not wait for it any longer.
    eventually("given up", async || agent.post("/snapshot/prepare", "").await.status == 204).await;
    drop(gate);
}

#[tokio::test]
async fn a_host_can_turn_it_off_and_on() {
    let agent = eager().await;
    steps(&agent, 1).await;
    assert_eq!(agent.post("/init", r#"{"reclaim":false}"#).await.status, 204);
    // A step that had been decided on may still begin.
    tokio::time::sleep(Duration::from_millis(50)).await;
    sees_no_step(&agent).await;
    assert_eq!(agent.post("/init", "{}").await.status, 204);
    sees_no_step(&agent).await;
    assert_eq!(agent.post("/init", r#"{"reclaim":true}"#).await.status, 204);
    steps(&agent, 1).await;
}
