//! CreateWatcher, GetWatcherEvents, RemoveWatcher.

use std::time::Duration;

use connectrpc::ErrorCode;
use dormouse_agent_core::Durations;
use dormouse_agent_proto::filesystem::{
    CreateWatcherRequest, EventType, FilesystemEvent, GetWatcherEventsRequest, RemoveWatcherRequest,
};

use crate::support::{MANY_WATCHERS, TestAgent, agent, agent_with};

async fn create(agent: &TestAgent, request: CreateWatcherRequest) -> Result<String, ErrorCode> {
    match agent.rpc.filesystem.create_watcher(request).await {
        Ok(answer) => Ok(answer.into_owned().watcher_id),
        Err(error) => Err(error.code),
    }
}

fn at(path: &str) -> CreateWatcherRequest {
    CreateWatcherRequest { path: path.into(), ..Default::default() }
}

fn below(path: &str) -> CreateWatcherRequest {
    CreateWatcherRequest { path: path.into(), recursive: true, ..Default::default() }
}

async fn events(agent: &TestAgent, id: &str) -> Result<Vec<FilesystemEvent>, ErrorCode> {
    let request = GetWatcherEventsRequest { watcher_id: id.into(), ..Default::default() };
    match agent.rpc.filesystem.get_watcher_events(request).await {
        Ok(answer) => Ok(answer.into_owned().events),
        Err(error) => Err(error.code),
    }
}

/// Each event as `WHAT name`.
pub(crate) fn word(event: &FilesystemEvent) -> String {
    let kind = match event.r#type.as_known() {
        Some(EventType::EVENT_TYPE_CREATE) => "CREATE",
        Some(EventType::EVENT_TYPE_WRITE) => "WRITE",
        Some(EventType::EVENT_TYPE_REMOVE) => "REMOVE",
        Some(EventType::EVENT_TYPE_RENAME) => "RENAME",
        Some(EventType::EVENT_TYPE_CHMOD) => "CHMOD",
        _ => "?",
    };
    format!("{kind} {}", event.name)
}

async fn words(agent: &TestAgent, id: &str) -> Vec<String> {
    events(agent, id).await.unwrap().iter().map(word).collect()
}

async fn remove(agent: &TestAgent, id: &str) -> Result<(), ErrorCode> {
    let request = RemoveWatcherRequest { watcher_id: id.into(), ..Default::default() };
    agent.rpc.filesystem.remove_watcher(request).await.map(drop).map_err(|error| error.code)
}

async fn upload(agent: &TestAgent, path: &str, content: &[u8]) {
    let answer =
        agent.http(&format!("POST /files?path={path}"), &["content-type: application/octet-stream"], content).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test]
async fn a_new_file_written_through_the_agent_is_exactly_three_events_and_they_are_there_at_once() {
    let agent = agent().await;
    for round in 0..20 {
        let id = create(&agent, at("")).await.unwrap();
        upload(&agent, &format!("file{round}"), b"hello").await;
        let expected = ["CREATE", "CHMOD", "WRITE"].map(|kind| format!("{kind} file{round}"));
        assert_eq!(words(&agent, &id).await, expected);
        assert_eq!(words(&agent, &id).await, [""; 0], "told once");
        remove(&agent, &id).await.unwrap();
    }
}

#[tokio::test]
async fn renames_and_removals_are_told_by_name() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "1").unwrap();
    let id = create(&agent, at("")).await.unwrap();
    std::fs::rename(agent.home.join("a"), agent.home.join("b")).unwrap();
    std::fs::remove_file(agent.home.join("b")).unwrap();
    std::fs::create_dir(agent.home.join("d")).unwrap();
    std::fs::write(agent.home.join("d/unseen"), "").unwrap();
    assert_eq!(words(&agent, &id).await, ["RENAME a", "CREATE b", "REMOVE b", "CREATE d"]);
}

#[tokio::test]
async fn what_was_made_in_a_new_directory_before_its_watch_is_told_once() {
    let agent = agent().await;
    let id = create(&agent, below("")).await.unwrap();
    std::fs::create_dir_all(agent.home.join("a/b")).unwrap();
    std::fs::write(agent.home.join("a/b/c"), "").unwrap();
    let mut told = words(&agent, &id).await;
    told.sort();
    assert_eq!(
        told.iter().filter(|word| word.starts_with("CREATE")).collect::<Vec<_>>(),
        ["CREATE a", "CREATE a/b", "CREATE a/b/c"]
    );
    // Whatever happened above, from now on everything is told.
    std::fs::write(agent.home.join("a/b/d"), "1").unwrap();
    assert_eq!(words(&agent, &id).await, ["CREATE a/b/d", "WRITE a/b/d"]);
}

#[tokio::test]
async fn a_renamed_directory_goes_on_under_its_new_name_and_one_moved_out_is_silent() {
    let agent = agent().await;
    let out = agent.home.parent().unwrap().join("out");
    std::fs::create_dir_all(agent.home.join("w/old/sub")).unwrap();
    let id = create(&agent, below("w")).await.unwrap();
    std::fs::rename(agent.home.join("w/old"), agent.home.join("w/new")).unwrap();
    std::fs::write(agent.home.join("w/new/sub/f"), "").unwrap();
    assert_eq!(words(&agent, &id).await, ["RENAME old", "CREATE new", "CREATE new/sub/f"]);
    std::fs::rename(agent.home.join("w/new"), &out).unwrap();
    std::fs::write(out.join("sub/g"), "").unwrap();
    assert_eq!(words(&agent, &id).await, ["RENAME new"]);
    // Back again, with what it has by now.
    std::fs::rename(&out, agent.home.join("w/back")).unwrap();
    let mut told = words(&agent, &id).await;
    told.sort();
    assert_eq!(told, ["CREATE back", "CREATE back/sub", "CREATE back/sub/f", "CREATE back/sub/g"]);
    std::fs::write(agent.home.join("w/back/sub/h"), "").unwrap();
    assert_eq!(words(&agent, &id).await, ["CREATE back/sub/h"]);
}

#[tokio::test]
async fn an_entry_comes_with_what_still_has_one() {
    let agent = agent().await;
    let id = create(&agent, CreateWatcherRequest { include_entry: true, ..at("") }).await.unwrap();
    upload(&agent, "f", b"hello").await;
    for event in events(&agent, &id).await.unwrap() {
        let entry = event.entry.as_option().unwrap_or_else(|| panic!("{}", word(&event)));
        assert_eq!((entry.name.as_str(), entry.path.as_str()), ("f", agent.home.join("f").to_str().unwrap()));
        assert_eq!(entry.owner, "tester");
    }
    std::fs::rename(agent.home.join("f"), agent.home.join("g")).unwrap();
    std::fs::remove_file(agent.home.join("g")).unwrap();
    let told = events(&agent, &id).await.unwrap();
    assert_eq!(told.iter().map(word).collect::<Vec<_>>(), ["RENAME f", "CREATE g", "REMOVE g"]);
    assert!(told[0].entry.is_unset() && told[2].entry.is_unset());
    remove(&agent, &id).await.unwrap();
    let id = create(&agent, at("")).await.unwrap();
    upload(&agent, "h", b"").await;
    assert!(events(&agent, &id).await.unwrap().iter().all(|event| event.entry.is_unset()), "not asked for");
}

#[tokio::test]
async fn the_directory_itself_is_a_dot() {
    let agent = agent().await;
    std::fs::create_dir(agent.home.join("d")).unwrap();
    let id = create(&agent, at("d")).await.unwrap();
    std::fs::remove_dir(agent.home.join("d")).unwrap();
    assert!(words(&agent, &id).await.contains(&"REMOVE .".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_with_its_reason() {
    let agent = agent().await;
    std::fs::write(agent.home.join("file"), "").unwrap();
    assert_eq!(create(&agent, at("missing")).await, Err(ErrorCode::NotFound));
    assert_eq!(create(&agent, at("file")).await, Err(ErrorCode::InvalidArgument));
    for id in ["", "w999", "nonsense"] {
        assert_eq!(events(&agent, id).await.unwrap_err(), ErrorCode::NotFound);
        assert_eq!(remove(&agent, id).await, Err(ErrorCode::NotFound));
    }
    let id = create(&agent, at("")).await.unwrap();
    remove(&agent, &id).await.unwrap();
    assert_eq!(events(&agent, &id).await.unwrap_err(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_link_to_a_directory_can_be_watched_and_links_below_are_not_followed() {
    let agent = agent().await;
    std::fs::create_dir_all(agent.home.join("real")).unwrap();
    std::fs::create_dir_all(agent.home.join("other")).unwrap();
    std::os::unix::fs::symlink("real", agent.home.join("link")).unwrap();
    std::os::unix::fs::symlink("../other", agent.home.join("real/to-other")).unwrap();
    let id = create(&agent, below("link")).await.unwrap();
    std::fs::write(agent.home.join("other/unseen"), "").unwrap();
    std::fs::write(agent.home.join("real/seen"), "").unwrap();
    assert_eq!(words(&agent, &id).await, ["CREATE seen"]);
}

#[tokio::test]
async fn more_events_than_are_kept_are_an_error_and_not_a_gap() {
    let agent = agent().await;
    let paths = ["a", "b"].map(|name| agent.home.join(name));
    for path in &paths {
        std::fs::write(path, "").unwrap();
    }
    let id = create(&agent, at("")).await.unwrap();
    for _ in 0..9000 {
        // No two alike in a row.
        for path in &paths {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
    }
    for _ in 0..2 {
        assert_eq!(events(&agent, &id).await.unwrap_err(), ErrorCode::DataLoss);
    }
    remove(&agent, &id).await.unwrap();
    let id = create(&agent, at("")).await.unwrap();
    std::fs::create_dir(agent.home.join("d")).unwrap();
    assert_eq!(words(&agent, &id).await, ["CREATE d"], "another watcher works");
}

#[tokio::test]
async fn there_are_64_watchers_at_most_and_removed_ones_make_room() {
    let _alone = MANY_WATCHERS.lock().await;
    let agent = agent().await;
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push(create(&agent, at("")).await.unwrap());
    }
    assert_eq!(create(&agent, at("")).await, Err(ErrorCode::ResourceExhausted));
    remove(&agent, &ids[0]).await.unwrap();
    create(&agent, at("")).await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_nobody_polls_goes_away() {
    let durations = Durations { watcher_idle: Duration::from_millis(100), ..Durations::default() };
    let agent = agent_with(durations, false).await;
    let id = create(&agent, at("")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(events(&agent, &id).await.unwrap_err(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_watcher_goes_on_across_a_snapshot() {
    let agent = agent().await;
    let id = create(&agent, below("")).await.unwrap();
    std::fs::write(agent.home.join("before"), "").unwrap();
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    assert_eq!(events(&agent, &id).await.unwrap_err(), ErrorCode::Unavailable);
    std::fs::create_dir(agent.home.join("between")).unwrap();
    assert_eq!(agent.post("/init", r#"{"generation":2}"#).await.status, 204);
    std::fs::write(agent.home.join("between/after"), "").unwrap();
    let told = words(&agent, &id).await;
    assert_eq!(told, ["CREATE before", "CREATE between", "CREATE between/after"]);
}
