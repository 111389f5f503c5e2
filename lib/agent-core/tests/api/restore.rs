//! The ways out of a prepare and of a freeze, and what comes before user processes run on.

use std::time::Duration;

use dormouse_agent_core::Durations;

use crate::support::{TestAgent, agent_with, eventually};

const FREEZE: &str = r#"{"freeze":true}"#;

fn frozen(agent: &TestAgent) -> bool {
    std::fs::read_to_string(agent.cgroup_file("cgroup.freeze")).unwrap() == "1"
}

async fn post(agent: &TestAgent, path: &str, body: &str) -> u16 {
    agent.post(path, body).await.status
}

/// The changes, all of which must have been made while user processes were frozen.
fn changes_before_thaw(agent: &TestAgent) -> Vec<String> {
    let changes = agent.kernel.changes();
    assert!(changes.iter().all(|(_, frozen)| *frozen), "{changes:?}");
    assert!(!frozen(agent), "thawed in the end");
    changes.into_iter().map(|(change, _)| change).collect()
}

#[tokio::test]
async fn init_sets_clock_then_generator_then_name_and_only_then_thaws() {
    let agent = agent_with(Durations::default(), true).await;
    assert_eq!(post(&agent, "/snapshot/prepare", FREEZE).await, 204);
    let body = r#"{"timestamp":"2030-01-01T00:00:00Z","entropy":"AAEC","hostname":"copy"}"#;
    assert_eq!(post(&agent, "/init", body).await, 204);
    assert_eq!(changes_before_thaw(&agent), ["clock 2030-01-01T00:00:00Z", "reseed 3", "name copy"]);
}

#[tokio::test]
async fn whatever_else_ends_a_prepare_reseeds_and_sets_the_clock_from_the_hardware_before_the_thaw() {
    let durations = Durations { init_grace: Duration::from_millis(50), ..Durations::default() };
    let agent = agent_with(durations, true).await;
    for (ends, how) in [("watchdog", r#"{"freeze":true,"watchdogMs":100}"#), ("abort", FREEZE), ("health", FREEZE)] {
        assert_eq!(post(&agent, "/snapshot/prepare", how).await, 204, "{ends}");
        match ends {
            "abort" => assert_eq!(post(&agent, "/snapshot/abort", "").await, 204),
            "health" => assert_eq!(agent.get("/health").await.status, 204),
            _ => {}
        }
        eventually(ends, async || agent.get("/files?path=missing").await.status == 404).await;
        assert_eq!(changes_before_thaw(&agent), ["clock 1970-01-01T00:00:00Z", "reseed 0"], "{ends}");
    }
}

#[tokio::test]
async fn health_waits_for_init_before_it_restores() {
    let agent = agent_with(Durations::default(), true).await;
    post(&agent, "/snapshot/prepare", FREEZE).await;
    for _ in 0..5 {
        assert_eq!(agent.get("/health").await.status, 204);
    }
    assert!(frozen(&agent) && agent.kernel.changes().is_empty(), "the host has not said yet who this is");
    assert_eq!(post(&agent, "/init", r#"{"entropy":"AAEC"}"#).await, 204);
    assert!(changes_before_thaw(&agent).contains(&"reseed 3".to_owned()));
}

#[tokio::test]
async fn a_prepare_during_a_restore_is_refused_and_user_requests_wait_for_the_end_of_it() {
    let agent = agent_with(Durations::default(), true).await;
    post(&agent, "/snapshot/prepare", FREEZE).await;
    let gate = agent.kernel.hold_next_reseed();
    let restoring = agent.http("POST /init", &[], b"");
    let meanwhile = async {
        eventually("restoring", async || !agent.kernel.changes().is_empty()).await;
        let statuses = [post(&agent, "/snapshot/prepare", "").await, post(&agent, "/freeze", "").await];
        assert_eq!(statuses, [409, 409]);
        assert_eq!(agent.get("/files?path=missing").await.status, 503);
        assert_eq!(agent.get("/health").await.status, 204);
        assert!(frozen(&agent));
        drop(gate);
    };
    let (restored, ()) = tokio::join!(restoring, meanwhile);
    assert_eq!(restored.status, 204);
    assert!(!frozen(&agent));
    assert_eq!(post(&agent, "/snapshot/prepare", "").await, 204);
}

#[tokio::test]
async fn of_two_inits_that_race_the_newer_one_has_the_last_word() {
    let agent = agent_with(Durations::default(), true).await;
    let gate = agent.kernel.hold_next_reseed();
    let older = r#"{"timestamp":"2030-01-01T00:00:00Z","hostname":"older","envVars":{"WHO":"older"}}"#;
    let newer = r#"{"timestamp":"2030-01-02T00:00:00Z","hostname":"newer","envVars":{"WHO":"newer"}}"#;
    let first = agent.post("/init", older);
    let second = async {
        eventually("the first is under way", async || !agent.kernel.changes().is_empty()).await;
        let (second, ()) = tokio::join!(agent.post("/init", newer), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(gate);
        });
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status, second.status), (204, 204));
    assert_eq!(agent.sh("echo $WHO; cat ../etc/hostname").await.stdout, "newer\nnewer\n");
    // A third that is older than both changes nothing.
    assert_eq!(post(&agent, "/init", older).await, 204);
    assert_eq!(agent.sh("echo $WHO").await.stdout, "newer\n");
}

#[tokio::test]
async fn an_init_whose_caller_goes_away_is_completed() {
    let agent = agent_with(Durations::default(), true).await;
    post(&agent, "/snapshot/prepare", FREEZE).await;
    let gate = agent.kernel.hold_next_reseed();
    let leaving = tokio::time::timeout(Duration::from_millis(100), agent.post("/init", r#"{"hostname":"late"}"#));
    assert!(leaving.await.is_err());
    drop(gate);
    eventually("restored", async || agent.get("/files?path=missing").await.status == 404).await;
    assert!(changes_before_thaw(&agent).contains(&"name late".to_owned()));
}

#[tokio::test]
async fn a_copy_gets_a_machine_id_of_its_own_and_a_resumed_guest_keeps_it() {
    let agent = agent_with(Durations::default(), true).await;
    let file = agent.root().join("etc/machine-id");
    let id = || std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    post(&agent, "/init", r#"{"hostname":"one"}"#).await;
    let first = id();
    assert_eq!(first.len(), 33);
    post(&agent, "/snapshot/prepare", "").await;
    post(&agent, "/init", r#"{"hostname":"one"}"#).await;
    assert_eq!(id(), first, "only paused");
    post(&agent, "/snapshot/prepare", "").await;
    post(&agent, "/init", r#"{"hostname":"two"}"#).await;
    assert_ne!(id(), first, "a copy");
}

#[tokio::test]
async fn the_address_for_events_is_named_in_hosts_and_in_the_environment() {
    let agent = agent_with(Durations::default(), true).await;
    assert_eq!(post(&agent, "/init", r#"{"hyperloopIP":"10.0.0.9","envVars":{"A":"1"}}"#).await, 204);
    let ran = agent.sh("echo $E2B_EVENTS_ADDRESS $A; grep events ../etc/hosts").await;
    assert_eq!(ran.stdout, "http://10.0.0.9 1\n10.0.0.9 events.e2b.local\n");
    assert_eq!(post(&agent, "/init", r#"{"hyperloopIP":"ten"}"#).await, 400);
}

#[tokio::test]
async fn freeze_and_unfreeze_are_idempotent_and_no_user_request_begins_in_between() {
    let agent = agent_with(Durations::default(), true).await;
    for _ in 0..2 {
        assert_eq!(post(&agent, "/freeze", "").await, 204);
        assert!(frozen(&agent));
        assert_eq!(agent.get("/files?path=missing").await.status, 503);
    }
    for _ in 0..2 {
        assert_eq!(post(&agent, "/unfreeze", "").await, 204);
        assert!(!frozen(&agent));
        assert_eq!(agent.get("/files?path=missing").await.status, 404);
    }
}

#[tokio::test]
async fn a_freeze_that_does_not_come_about_in_time_leaves_nothing_frozen() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 0\n").unwrap();
    let answer = agent.post("/freeze?maxWaitMs=50", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("in time"));
    assert!(!frozen(&agent));
    assert_eq!(agent.get("/files?path=missing").await.status, 404);
}

#[tokio::test]
async fn unfreeze_stops_a_freeze_that_is_under_way() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 0\n").unwrap();
    let unfreezing = async {
        eventually("freezing", async || frozen(&agent)).await;
        post(&agent, "/unfreeze", "").await
    };
    let (freeze, unfreeze) = tokio::join!(post(&agent, "/freeze?maxWaitMs=20000", ""), unfreezing);
    assert_eq!((freeze, unfreeze), (409, 204));
    assert!(!frozen(&agent));
}

#[tokio::test]
async fn a_freeze_is_taken_over_by_a_prepare_and_undone_by_what_ends_that() {
    let agent = agent_with(Durations::default(), true).await;
    for ends in ["/init", "/snapshot/abort"] {
        assert_eq!(post(&agent, "/freeze", "").await, 204);
        assert_eq!(post(&agent, "/snapshot/prepare", "").await, 204);
        assert_eq!([post(&agent, "/freeze", "").await, post(&agent, "/unfreeze", "").await], [409, 409]);
        assert!(frozen(&agent));
        assert_eq!(post(&agent, ends, "").await, 204);
        assert!(!frozen(&agent), "{ends}");
    }
    post(&agent, "/freeze", "").await;
    assert_eq!(post(&agent, "/snapshot/abort", "").await, 204);
    assert!(frozen(&agent), "there was no prepare to abort");
    assert_eq!(post(&agent, "/init", "").await, 204);
    assert!(!frozen(&agent));
}

#[tokio::test]
async fn a_freeze_that_nothing_ends_is_undone() {
    let durations = Durations { frozen: Duration::from_millis(100), ..Durations::default() };
    let agent = agent_with(durations, true).await;
    assert_eq!(post(&agent, "/freeze", "").await, 204);
    eventually("thawed", async || agent.get("/files?path=missing").await.status == 404).await;
    assert_eq!(changes_before_thaw(&agent), ["clock 1970-01-01T00:00:00Z", "reseed 0"]);
}

#[tokio::test]
async fn outside_a_guest_there_is_nothing_to_freeze() {
    let agent = agent_with(Durations::default(), false).await;
    assert_eq!([post(&agent, "/freeze", "").await, post(&agent, "/unfreeze", "").await], [204, 204]);
    assert_eq!(agent.sh("echo on").await.stdout, "on\n");
}
