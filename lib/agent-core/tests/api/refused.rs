//! Clients that are answered before they have sent everything: they read the answer all the same, whenever they look.

use std::time::Duration;

use dormouse_agent_core::Durations;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestAgent, agent_with, eventually, stretched};

const PIECE: &[u8] = b"8\r\n{\"a\":12}\r\n";

async fn patient() -> TestAgent {
    agent_with(Durations { linger: Duration::from_secs(60), ..Durations::default() }, false).await
}

/// Sends `head`, waits until there is an answer, and only then goes on sending, many times `piece` and then `end`.
async fn sent_late(agent: &TestAgent, head: &str, piece: &[u8], end: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answered = tokio::time::timeout(stretched(Duration::from_secs(10)), stream.peek(&mut [0])).await;
    answered.unwrap_or_else(|_| panic!("no answer to {head:?}")).unwrap();
    for n in 0..30 {
        stream.write_all(piece).await.unwrap_or_else(|error| panic!("piece {n} after {head:?}: {error}"));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    stream.write_all(end).await.unwrap();
    stream
}

/// The status of the answer on `stream`, which is read no further than to its end.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head[9..12].parse().unwrap()
}

fn chunked(request: &str, headers: &str) -> String {
    format!("{request} HTTP/1.1\r\nhost: a\r\n{headers}transfer-encoding: chunked\r\n\r\n")
}

#[tokio::test]
async fn whoever_is_refused_can_finish_sending_and_reads_why_and_goes_on() {
    let agent = patient().await;
    let stream_kind = "content-type: application/connect+json\r\n";
    let octets = "content-type: application/octet-stream\r\n";
    let token = "x-access-token: tok\r\n";
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    let mut refused = vec![
        (chunked("POST /process.Process/Start", stream_kind), 401),
        (chunked("POST /process.Process/StreamInput", &format!("{stream_kind}x-access-token: tok2\r\n")), 401),
        (chunked("POST /filesystem.Filesystem/Stat", "content-type: application/json\r\n"), 401),
        (chunked("POST /snapshot/prepare", ""), 401),
        (chunked("POST /files?path=x", octets), 401),
        (chunked("POST /files", &format!("{octets}{token}")), 400),
        (chunked("POST /files?path=/", &format!("{octets}{token}")), 400),
        (chunked("POST /files?path=x", &format!("{octets}{token}content-encoding: br\r\n")), 415),
        (chunked("POST /files?path=x&username=nobody9", &format!("{octets}{token}")), 401),
        (chunked("DELETE /files?path=x", token), 405),
        (chunked("POST /health", token), 405),
    ];
    refused.push(("POST /files?path=x HTTP/1.1\r\nhost: a\r\ncontent-length: 390\r\n\r\n".into(), 401));
    for (head, expected) in refused {
        let end: &[u8] = if head.contains("chunked") { b"0\r\n\r\n" } else { b"" };
        let mut stream = sent_late(&agent, &head, PIECE, end).await;
        assert_eq!(status(&mut stream).await, expected, "{head}");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert_eq!(status(&mut stream).await, 204, "the connection is as good as new after {head}");
    }
    assert!(!agent.home.join("x").exists());
}

#[tokio::test]
async fn whoever_comes_during_a_snapshot_reads_that_it_is_not_the_time() {
    let agent = patient().await;
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    let head = chunked("POST /files?path=x", "content-type: application/octet-stream\r\n");
    assert_eq!(status(&mut sent_late(&agent, &head, PIECE, b"0\r\n\r\n").await).await, 503);
}

#[tokio::test]
async fn whoever_breaks_the_framing_reads_that_it_is_broken() {
    let agent = patient().await;
    for (head, piece) in [
        ("no HTTP at all\r\n\r\n", b"and more of it\r\n".as_slice()),
        ("POST /init HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", b"body"),
        ("POST /init HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n", b"body"),
    ] {
        let mut stream = sent_late(&agent, head, piece, b"").await;
        let told = status(&mut stream).await;
        assert!(matches!(told, 400 | 500), "{head}: {told}");
    }
    let long = [b"GET /health HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 8 << 20], b"\r\n\r\n"].concat();
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(&long).await.expect("everything can be sent");
    assert_eq!(status(&mut stream).await, 431);
}

#[tokio::test]
async fn whoever_waits_to_be_asked_for_the_body_is_not_asked_for_a_refused_one() {
    let agent = patient().await;
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    let head = chunked("POST /files?path=x", "expect: 100-continue\r\n");
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status(&mut stream).await, 401);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "the end, since the client may send the body or not");
}

#[tokio::test]
async fn whoever_does_not_finish_after_the_refusal_is_cut_off() {
    let durations = Durations { linger: Duration::from_millis(200), ..Durations::default() };
    let agent = agent_with(durations, false).await;
    for head in ["DELETE /files HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{", "no HTTP at all\r\n\r\n"] {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        eventually("nobody listens", async || stream.write_all(b" ").await.is_err()).await;
    }
}
