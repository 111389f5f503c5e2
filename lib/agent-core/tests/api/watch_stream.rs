//! WatchDir.

use std::time::Duration;

use connectrpc::ErrorCode;
use dormouse_agent_proto::client::CallOptions;
use dormouse_agent_proto::filesystem::{CreateWatcherRequest, WatchDirRequest, WatchDirResponse};
use dormouse_agent_proto::proto::filesystem::__buffa::oneof::watch_dir_response::Event;

use crate::support::{MANY_WATCHERS, TestAgent, agent, eventually, stretched};
use crate::watch::word;

fn home(recursive: bool) -> WatchDirRequest {
    WatchDirRequest { path: "~".into(), recursive, ..Default::default() }
}

/// Next message as a word, or the code of the error that ends the stream.
macro_rules! next {
    ($stream:expr) => {{
        let message = tokio::time::timeout(stretched(Duration::from_secs(10)), $stream.message())
            .await
            .expect("a message in time");
        match message {
            Ok(Some(message)) => Ok(name(message.to_owned_message())),
            Ok(None) => Err(None),
            Err(error) => Err(Some(error.code)),
        }
    }};
}

fn name(message: WatchDirResponse) -> String {
    match message.event.unwrap() {
        Event::Start(_) => "start".into(),
        Event::Filesystem(event) => word(&event),
        Event::Keepalive(_) => "keepalive".into(),
    }
}

#[tokio::test]
async fn a_stream_begins_with_start_and_tells_what_happens() {
    let agent = agent().await;
    let mut stream = agent.rpc.filesystem.watch_dir(home(true)).await.unwrap();
    assert_eq!(next!(stream).unwrap(), "start");
    std::fs::create_dir(agent.home.join("d")).unwrap();
    assert_eq!(next!(stream).unwrap(), "CREATE d");
    std::fs::write(agent.home.join("d/f"), "").unwrap();
    assert_eq!(next!(stream).unwrap(), "CREATE d/f");
}

#[tokio::test]
async fn what_cannot_be_watched_ends_the_stream_with_its_reason() {
    let agent = agent().await;
    std::fs::write(agent.home.join("file"), "").unwrap();
    for (path, code) in [("missing", ErrorCode::NotFound), ("file", ErrorCode::InvalidArgument)] {
        let request = WatchDirRequest { path: path.into(), ..Default::default() };
        let ended = match agent.rpc.filesystem.watch_dir(request).await {
            Ok(mut stream) => next!(stream).unwrap_err(),
            Err(error) => Some(error.code),
        };
        assert_eq!(ended, Some(code), "{path}");
    }
}

#[tokio::test]
async fn an_idle_stream_shows_signs_of_life_and_ends_at_its_time_limit() {
    let agent = agent().await;
    let options =
        CallOptions::default().with_header("keepalive-ping-interval", "1").with_header("connect-timeout-ms", "1500");
    let mut stream = agent.rpc.filesystem.watch_dir_with_options(home(false), options).await.unwrap();
    assert_eq!(next!(stream).unwrap(), "start");
    assert_eq!(next!(stream).unwrap(), "keepalive");
    assert_eq!(next!(stream), Err(Some(ErrorCode::DeadlineExceeded)));
}

async fn room_for_one(agent: &TestAgent) -> bool {
    let request = CreateWatcherRequest { path: "~".into(), ..Default::default() };
    agent.rpc.filesystem.create_watcher(request).await.is_ok()
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_watch_along() {
    let _alone = MANY_WATCHERS.lock().await;
    let agent = agent().await;
    for _ in 0..63 {
        assert!(room_for_one(&agent).await);
    }
    let mut stream = agent.rpc.filesystem.watch_dir(home(false)).await.unwrap();
    assert_eq!(next!(stream).unwrap(), "start");
    assert!(!room_for_one(&agent).await);
    drop(stream);
    eventually("room", async || room_for_one(&agent).await).await;
}

#[tokio::test]
async fn a_stream_that_was_open_across_a_snapshot_ends_at_restore_with_an_error() {
    let agent = agent().await;
    let mut stream = agent.rpc.filesystem.watch_dir(home(false)).await.unwrap();
    assert_eq!(next!(stream).unwrap(), "start");
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    assert_eq!(agent.post("/init", r#"{"generation":2}"#).await.status, 204);
    assert!(next!(stream).unwrap_err().is_some());
}
