//! Clients that ask for too much.

use super::fake_host::FakeHost;
use super::server::{KEY, start};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = start(FakeHost::default()).await;
    let body = format!(r#"{{"templateID":"{}"}}"#, "x".repeat(900_000));
    assert_eq!(server.ask("POST", "/v2/sandboxes", &body).await.status, 404, "below the limit it is looked at");
    let body = format!(r#"{{"templateID":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(server.ask("POST", "/v2/sandboxes", &body).await.status, 413);
}

#[tokio::test]
async fn a_head_with_too_many_headers_is_refused() {
    let server = start(FakeHost::default()).await;
    let few = format!("X-API-Key: {KEY}\r\n{}", "X-A: b\r\n".repeat(50));
    assert_eq!(server.ask_with("GET", "/v2/sandboxes", &few, "").await.status, 200);
    let many = format!("X-API-Key: {KEY}\r\n{}", "X-A: b\r\n".repeat(200));
    assert_eq!(server.ask_with("GET", "/v2/sandboxes", &many, "").await.status, 431);
}
