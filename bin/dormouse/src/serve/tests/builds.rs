//! Builds over the wire.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake_host::FakeHost;
use super::server::{KEY, start};

#[tokio::test]
async fn a_failed_build_ends_with_its_reason() {
    let server = start(FakeHost::default()).await;
    let answer = server.ask("POST", "/dormouse/v1/templates/bad/build", "").await;
    assert_eq!(answer.status, 200, "the stream began before the build failed");
    let text = String::from_utf8(answer.body).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines[0], r#"{"step":"one"}"#);
    assert_eq!(*lines.last().unwrap(), r#"{"error":{"code":500,"message":"no such package: nope"}}"#);
}

#[tokio::test]
async fn a_bad_request_is_refused_before_anything_is_built() {
    let server = start(FakeHost::default()).await;
    for (name, body) in [("a%2Fb", "{}"), ("x", r#"{"vcpu":1}"#), ("x", r#"{"root":{"from":"tar","path":"rel"}}"#)] {
        let answer = server.ask("POST", &format!("/dormouse/v1/templates/{name}/build"), body).await;
        assert_eq!(answer.status, 400, "{name} {body}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_build() {
    let host = FakeHost::default();
    let cancelled = Arc::clone(&host.build_cancelled);
    let server = start(host).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!(
        "POST /dormouse/v1/templates/slow/build HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: 0\r\n\r\n"
    );
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
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("the build goes on for nobody");
}
