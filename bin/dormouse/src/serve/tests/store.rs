//! The routes of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake_host::{FakeHost, SNAPSHOT};
use super::server::{KEY, start};

const VERIFY: &str = "/dormouse/v1/store/verify";

#[tokio::test]
async fn a_verification_tells_what_is_damaged_and_ends_with_a_report() {
    let server = start(FakeHost::default()).await;
    let answer = server.ask("POST", VERIFY, &json!({"snapshots": [SNAPSHOT]}).to_string()).await;
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let damaged = json!({"kind": "index", "path": "snapshots/x", "reason": "flipped", "snapshots": [SNAPSHOT]});
    assert_eq!(lines[0], json!({"step": "packs"}));
    assert_eq!(lines[1], json!({"damaged": damaged}));
    let done = json!({"good": [], "unread": [SNAPSHOT], "hurt": [SNAPSHOT], "packs": 0, "remotePacks": 0, "damaged": [damaged]});
    assert_eq!(*lines.last().unwrap(), json!({"done": done}));
    let answer = server.ask("POST", VERIFY, &json!({"snapshots": [SNAPSHOT], "fetch": true}).to_string()).await;
    assert!(String::from_utf8(answer.body).unwrap().contains(r#""unread":[]"#), "the wish to fetch is passed on");
}

#[tokio::test]
async fn what_is_no_snapshot_or_no_request_is_refused_before_anything_is_read() {
    let server = start(FakeHost::default()).await;
    assert_eq!(server.ask("POST", VERIFY, r#"{"snapshots":["../x"]}"#).await.status, 404);
    assert_eq!(server.ask("POST", VERIFY, r#"{"snapshot":[]}"#).await.status, 400);
    assert_eq!(server.ask("POST", "/dormouse/v1/store/gc", r#"{"dryrun":true}"#).await.status, 400);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_verification() {
    let host = FakeHost::default();
    let cancelled = Arc::clone(&host.build_cancelled);
    let server = start(host).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request =
        format!("POST {VERIFY} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = vec![0; 64 << 10];
    let mut length = 0;
    while !String::from_utf8_lossy(&seen[..length]).contains("step") {
        length += stream.read(&mut seen[length..]).await.unwrap();
    }
    assert!(!cancelled.load(Ordering::SeqCst));
    drop(stream);
    let noticed = async {
        while !cancelled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("it goes on for nobody");
}

#[tokio::test]
async fn statistics_and_collections_have_their_bodies_and_what_cannot_be_read_is_a_conflict() {
    let server = start(FakeHost::default()).await;
    assert_eq!(server.ask("GET", "/dormouse/v1/store", "").await.json()["packs"], 7);
    let would = server.ask("POST", "/dormouse/v1/store/gc", r#"{"dryRun":true}"#).await.json();
    assert_eq!((would["packs"].as_u64(), would["packsFreed"].as_u64()), (Some(1), Some(5)));
    let would = server.ask("POST", "/dormouse/v1/store/gc", r#"{"dryRun":true,"remote":true}"#).await.json();
    assert_eq!((would["remotePacks"].as_u64(), would["remoteFreed"].as_u64()), (Some(2), Some(6)));
    assert_eq!(server.ask("POST", "/dormouse/v1/store/gc", r#"{"remote":true}"#).await.status, 502);
    let refused = server.ask("POST", "/dormouse/v1/store/gc", "{}").await;
    assert_eq!(refused.status, 409);
    let said = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(said.contains("snapshots/x cannot be read") && said.contains("and 1 more"), "{said}");
}
