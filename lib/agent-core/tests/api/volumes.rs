//! Volumes and certificates that the host gives to a guest.

use std::time::Duration;

use dormouse_agent_core::Durations;

use crate::support::{TestAgent, agent_with, eventually};

async fn guest() -> TestAgent {
    agent_with(Durations::default(), true).await
}

/// Sends `/init` and tells what was mounted and unmounted.
async fn init(agent: &TestAgent, life: &str, mounts: &[(&str, &str)]) -> Vec<String> {
    let mounts: Vec<_> = mounts
        .iter()
        .map(|(export, path)| serde_json::json!({"nfs_target": format!("10.0.0.1:{export}"), "path": path}))
        .collect();
    let body = serde_json::json!({"lifecycleID": life, "volumeMounts": mounts});
    assert_eq!(agent.post("/init", &body.to_string()).await.status, 204);
    done(agent)
}

fn done(agent: &TestAgent) -> Vec<String> {
    let changes = agent.kernel.changes().into_iter().map(|(change, _)| change);
    changes.filter(|change| change.contains("mount")).collect()
}

#[tokio::test]
async fn volumes_are_mounted_once_in_each_life_and_go_when_they_are_not_wanted() {
    let agent = guest().await;
    let (data, busy) = (("/data", "/mnt/data"), ("/more", "/mnt/busy"));
    let mut first = init(&agent, "one", &[data, busy]).await;
    first.sort();
    assert_eq!(first, ["mount /data /mnt/data", "mount /more /mnt/busy"]);
    assert_eq!(init(&agent, "one", &[data, busy]).await, Vec::<String>::new(), "the same life");
    assert_eq!(agent.post("/init", r#"{"lifecycleID":"one"}"#).await.status, 204);
    assert_eq!(done(&agent), Vec::<String>::new(), "absent changes nothing");
    let next = init(&agent, "two", &[busy]).await;
    assert_eq!(next.last().unwrap(), "mount /more /mnt/busy");
    for gone in ["unmount /mnt/data", "unmount /mnt/busy", "unmount lazily /mnt/busy"] {
        assert!(next.contains(&gone.to_owned()), "{gone} in {next:?}");
    }
    assert_eq!(init(&agent, "two", &[]).await, ["unmount /mnt/busy", "unmount lazily /mnt/busy"]);
    assert_eq!(init(&agent, "three", &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_cannot_be_mounted_stops_neither_init_nor_another_and_is_tried_again() {
    let agent = guest().await;
    let both = [("/missing", "/mnt/a"), ("/data", "/mnt/b")];
    assert_eq!(init(&agent, "one", &both).await.len(), 2);
    assert_eq!(init(&agent, "one", &both).await, ["mount /missing /mnt/a"]);
}

#[tokio::test]
async fn volumes_are_there_before_user_processes_run_on() {
    let agent = guest().await;
    assert_eq!(agent.post("/snapshot/prepare", r#"{"freeze":true}"#).await.status, 204);
    let body = r#"{"volumeMounts":[{"nfs_target":"10.0.0.1:/data","path":"/mnt"}]}"#;
    assert_eq!(agent.post("/init", body).await.status, 204);
    let changes = agent.kernel.changes();
    assert!(changes.contains(&("mount /data /mnt".to_owned(), true)), "{changes:?}");
}

#[tokio::test]
async fn a_dead_server_costs_its_deadline_and_its_late_answer_mounts_nothing() {
    let agent = guest().await;
    let gate = agent.kernel.hold_next_mount();
    let begin = tokio::time::Instant::now();
    assert_eq!(init(&agent, "one", &[("/data", "/mnt")]).await, ["mount /data /mnt"]);
    assert!(begin.elapsed() >= Duration::from_secs(9), "it was waited for");
    assert_eq!(agent.sh("echo works").await.stdout, "works\n");
    drop(gate);
    let taken_away = async || done(&agent).contains(&"unmount lazily /mnt".to_owned());
    eventually("the late mount is taken away", taken_away).await;
    assert_eq!(init(&agent, "one", &[("/data", "/mnt")]).await, ["mount /data /mnt"], "it can be tried again");
}

#[tokio::test]
async fn a_stale_init_mounts_nothing_and_a_wrong_one_is_refused_whole() {
    let agent = guest().await;
    let at = |time: &str, path: &str| {
        format!(
            r#"{{"timestamp":"{time}","lifecycleID":"x","envVars":{{"A":"{time}"}},
            "volumeMounts":[{{"nfs_target":"10.0.0.1:/data","path":"{path}"}}]}}"#
        )
    };
    assert_eq!(agent.post("/init", &at("2030-01-02T00:00:00Z", "/new")).await.status, 204);
    assert_eq!(agent.post("/init", &at("2030-01-01T00:00:00Z", "/old")).await.status, 204);
    assert_eq!(done(&agent), ["mount /data /new"]);
    for wrong in ["/", "relative", "/proc", "/a/../b"] {
        assert_eq!(agent.post("/init", &at("2030-01-03T00:00:00Z", wrong)).await.status, 400, "{wrong}");
    }
    assert_eq!(agent.post("/init", r#"{"caBundle":"no certificate","envVars":{"A":"x"}}"#).await.status, 400);
    assert_eq!(agent.sh("echo $A").await.stdout, "2030-01-02T00:00:00Z\n");
}

#[tokio::test]
async fn certificates_of_the_host_are_trusted_and_a_new_set_replaces_them() {
    let agent = guest().await;
    let bundle = agent.root().join("etc/ssl/certs/ca-certificates.crt");
    let certificate = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
    std::fs::create_dir_all(bundle.parent().unwrap()).unwrap();
    std::fs::write(&bundle, certificate("Usual")).unwrap();
    for name in ["One", "One", "Two"] {
        let body = serde_json::json!({"caBundle": certificate(name)}).to_string();
        assert_eq!(agent.post("/init", &body).await.status, 204);
        assert_eq!(std::fs::read_to_string(&bundle).unwrap(), certificate("Usual") + &certificate(name));
    }
    assert_eq!(agent.post("/init", r#"{"caBundle":""}"#).await.status, 204);
    assert_eq!(std::fs::read_to_string(&bundle).unwrap(), certificate("Usual") + &certificate("Two"));
}
