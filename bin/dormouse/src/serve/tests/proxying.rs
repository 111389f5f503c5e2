//! The way to a sandbox.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake_agent::FakeAgent;
use super::fake_host::{FakeHost, PAUSED, PAUSING, RUNNING};
use super::server::{KEY, Server, start};

const DEADLINE: Duration = Duration::from_secs(10);

fn to(id: &str, port: u16) -> String {
    format!("E2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: {port}\r\n")
}

async fn with_agent() -> (Server, FakeAgent) {
    let (agent, addr) = FakeAgent::start().await;
    (start(FakeHost { agent: Some(addr), ..FakeHost::default() }).await, agent)
}

/// A client that has begun a chunked upload.
async fn begin(server: &Server, extra: &str) -> TcpStream {
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let headers = to(RUNNING, 49983);
    let head =
        format!("POST /files?path=a HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{extra}Transfer-Encoding: chunked\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        assert!(client.read_buf(&mut seen).await.unwrap() > 0, "{}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn sandboxes_that_cannot_be_reached_are_told_in_the_words_of_e2b() {
    let server = start(FakeHost::default()).await;
    let unknown = "i99999999999999999999";
    for id in [unknown, PAUSED, "no-id"] {
        let answer = server.ask_with("GET", "/health", &to(id, 49983), "").await;
        let wanted = json!({"sandboxId": id, "message": "The sandbox was not found", "code": 502});
        assert_eq!((answer.status, answer.json()), (502, wanted));
    }
    let answer = server.ask_with("GET", "/", &to(RUNNING, 8080), "").await;
    let message = "The sandbox is running but port is not open";
    let wanted = json!({"sandboxId": RUNNING, "message": message, "port": 8080, "code": 502});
    assert_eq!((answer.status, answer.json()), (502, wanted));
    assert_eq!(server.ask_with("GET", "/", &to(PAUSING, 49983), "").await.status, 409);
    assert_eq!(server.ask_with("GET", "/", "E2b-Sandbox-Id: i\r\n", "").await.status, 400);
}

#[tokio::test]
async fn a_host_name_is_as_good_as_headers() {
    let server = start(FakeHost::default()).await;
    let answer = server.ask_with("GET", "/", &format!("Host: 8080-{RUNNING}.e2b.test\r\n"), "").await;
    assert_eq!((answer.status, answer.json()["port"].as_u64()), (502, Some(8080)));
}

#[tokio::test]
async fn control_routes_of_the_agent_are_not_there() {
    let (server, _agent) = with_agent().await;
    for path in ["/init", "/freeze", "/unfreeze", "/snapshot/prepare", "/snapshot/abort", "//init", "/%69nit"] {
        assert_eq!(server.ask_with("POST", path, &to(RUNNING, 49983), "{}").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn both_directions_flow_as_they_come() {
    let (server, agent) = with_agent().await;
    let mut client = begin(&server, "").await;
    let mut peer = agent.accept().await;
    client.write_all(b"3\r\none\r\n").await.unwrap();
    peer.read_until("one").await;
    peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    read_until(&mut client, "first").await;
    client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    peer.read_until("two").await;
    peer.write("6\r\nsecond\r\n0\r\n\r\n").await;
    let rest = read_until(&mut client, "0\r\n\r\n").await;
    assert!(rest.contains("second"), "{rest}");
}

#[tokio::test]
async fn the_key_of_the_host_and_headers_of_the_connection_stay_here() {
    let (server, agent) = with_agent().await;
    let extra = format!("X-API-Key: {KEY}\r\nX-Access-Token: tok\r\nConnection: x-mine\r\nX-Mine: 1\r\n");
    let _client = begin(&server, &extra).await;
    let head = agent.accept().await.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("x-access-token: tok") && head.starts_with("post /files?path=a http/1.1"), "{head}");
    assert!(!head.contains("x-api-key") && !head.contains("x-mine"), "{head}");
}

#[tokio::test]
async fn when_the_vm_dies_the_answer_breaks_off_without_its_last_chunk() {
    let (server, agent) = with_agent().await;
    let mut client = begin(&server, "").await;
    let mut peer = agent.accept().await;
    peer.read_until("\r\n\r\n").await;
    peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    read_until(&mut client, "first").await;
    drop(peer);
    let mut rest = Vec::new();
    // The end may also come as a reset.
    let _ = tokio::time::timeout(DEADLINE, client.read_to_end(&mut rest)).await.expect("the connection stays open");
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n"), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_client_that_goes_away_is_seen_by_the_agent() {
    let (server, agent) = with_agent().await;
    let mut client = begin(&server, "").await;
    let mut peer = agent.accept().await;
    peer.read_until("\r\n\r\n").await;
    peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    read_until(&mut client, "first").await;
    drop(client);
    tokio::time::timeout(DEADLINE, peer.closed()).await.expect("the agent is not told");
}
