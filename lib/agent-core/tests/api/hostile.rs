//! Clients that mean harm or are broken: whatever they do, the agent goes on answering everybody else.

use std::time::Duration;

use dormouse_agent_core::Durations;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestAgent, agent, agent_with, eventually, stretched};
use crate::wire::frame;

/// The agent answers and works, for a client that behaves.
async fn lives(agent: &TestAgent) {
    let answering = async {
        assert_eq!(agent.get("/health").await.status, 204);
        assert_eq!(agent.sh("echo works").await.stdout, "works\n");
    };
    tokio::time::timeout(stretched(Duration::from_secs(30)), answering).await.expect("the agent answers others");
}

/// A connection on which `bytes` were sent.
async fn sent(agent: &TestAgent, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    // The agent may close while much is still being sent.
    let _ = stream.write_all(bytes).await;
    stream
}

/// What the agent answers to `bytes` before it closes, or until it has answered once and waits.
async fn answer(agent: &TestAgent, bytes: &[u8]) -> String {
    let mut stream = sent(agent, bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(stretched(Duration::from_secs(30)), reading).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(method: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /process.Process/{method} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn streaming(method: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    post(method, &format!("content-type: application/connect+json\r\ncontent-length: {length}\r\n"), body)
}

/// Whether the agent has closed `stream`.
fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(1..) => {}
            Ok(0) => return true,
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test]
async fn heads_that_never_end_hold_nobody_up_and_are_cut_off() {
    let agent = agent_with(Durations { request_head: Duration::from_secs(1), ..Durations::default() }, false).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(sent(&agent, b"GET /health HTTP/1.1\r\nx-slow: ").await);
    }
    lives(&agent).await;
    eventually("all are cut off, however they dribble", async || {
        for stream in &mut slow {
            let _ = stream.write_all(b"a").await;
        }
        slow.iter().all(is_closed)
    })
    .await;
}

#[tokio::test]
async fn bodies_that_never_end_hold_nobody_up_and_are_cut_off() {
    let agent = agent_with(Durations { request_body: Duration::from_secs(1), ..Durations::default() }, false).await;
    let mut slow = Vec::new();
    for kind in ["application/json", "application/proto", "application/connect+json", "application/grpc-web+proto"] {
        for method in ["List", "Start", "NoSuchMethod"] {
            let headers = format!("content-type: {kind}\r\ncontent-length: 1000\r\n");
            slow.push(sent(&agent, &post(method, &headers, b"{")).await);
        }
    }
    slow.push(sent(&agent, b"POST /init HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{").await);
    slow.push(sent(&agent, b"POST /files?path=x HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\n{").await);
    lives(&agent).await;
    eventually("all are cut off", async || slow.iter().all(is_closed)).await;
}

#[tokio::test]
async fn bytes_that_are_no_http_end_the_connection_only() {
    let agent = agent().await;
    let mut many = b"GET /health HTTP/1.1\r\n".to_vec();
    (0..5000).for_each(|n| many.extend_from_slice(format!("x-{n}: 1\r\n").as_bytes()));
    let long = [b"GET /health HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 2 << 20]].concat();
    let attacks: [&[u8]; 7] = [
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /init HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /init HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        &many,
        &long,
    ];
    for bytes in attacks {
        let answer = answer(&agent, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        lives(&agent).await;
    }
}

#[tokio::test]
async fn a_frame_that_lies_about_its_length_is_refused_and_takes_no_memory() {
    let agent = agent().await;
    let huge = [&[0, 0xff, 0xff, 0xff, 0xff][..], b"{}"].concat();
    let longer = [&[0, 0, 0, 0, 9][..], b"{}"].concat();
    let shorter = [&[0, 0, 0, 0, 1][..], b"{}"].concat();
    let head_only = vec![0, 0, 0];
    for body in [huge, longer, shorter, head_only] {
        for method in ["Start", "Connect", "StreamInput"] {
            let answer = answer(&agent, &streaming(method, &body)).await;
            assert!(answer.contains(r#""error""#), "{method} {body:?}: {answer}");
            assert!(!answer.contains("\"event\""), "{method} {body:?}: {answer}");
        }
    }
    lives(&agent).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let agent = agent().await;
    let large = frame(&format!(r#"{{"tag":"{}"}}"#, "x".repeat(5 << 20)));
    for method in ["Start", "StreamInput"] {
        let answer = answer(&agent, &streaming(method, &large)).await;
        assert!(answer.contains("resource_exhausted"), "{method}: {answer}");
    }
    lives(&agent).await;
}

#[tokio::test]
async fn compressed_messages_are_not_unpacked() {
    let agent = agent().await;
    let announced = "content-type: application/connect+json\r\nconnect-content-encoding: gzip\r\ncontent-length: 7\r\n";
    let told = answer(&agent, &post("Start", announced, &[1, 0, 0, 0, 2, 0x1f, 0x8b])).await;
    assert!(told.contains("unimplemented"), "{told}");
    let told = answer(&agent, &streaming("Start", &[1, 0, 0, 0, 2, 0x1f, 0x8b])).await;
    assert!(told.contains(r#""error""#), "{told}");
    let single = "content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n";
    let told = answer(&agent, &post("List", single, &[0x1f, 0x8b])).await;
    assert!(told.contains("unimplemented"), "{told}");
    lives(&agent).await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_or_vanishes_leaves_nothing_hanging() {
    let agent = agent().await;
    // More than waits anywhere for a client to read it.
    let script = "head -c 30000000 /dev/zero; echo > through; yes";
    let start =
        frame(&format!(r#"{{"process":{{"cmd":"/bin/sh","args":["-c","{script}"]}},"tag":"t","stdin":false}}"#));
    let through = agent.home.join("through");
    for abrupt in [false, true] {
        let mut stream = sent(&agent, &streaming("Start", &start)).await;
        let mut some = [0; 200];
        stream.read_exact(&mut some).await.unwrap();
        if abrupt {
            drop(stream);
        } else {
            stream.shutdown().await.unwrap();
        }
        lives(&agent).await;
        eventually("the process is not held up", async || through.exists()).await;
        std::fs::remove_file(&through).unwrap();
        let kill = br#"{"process":{"tag":"t"},"signal":"SIGNAL_SIGKILL"}"#;
        let killed =
            post("SendSignal", &format!("content-type: application/json\r\ncontent-length: {}\r\n", kill.len()), kill);
        assert!(answer(&agent, &killed).await.starts_with("HTTP/1.1 200"));
        let list = post("List", "content-type: application/json\r\ncontent-length: 2\r\n", b"{}");
        eventually("the process ends", async || answer(&agent, &list).await.contains("{}")).await;
    }
}

#[tokio::test]
async fn many_clients_that_do_not_read_cost_little() {
    let agent = agent().await;
    let start = frame(
        r#"{"process":{"cmd":"/bin/sh","args":["-c","head -c 100000000 /dev/zero; echo > \"$0\"", "over"]},"stdin":false}"#,
    );
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = sent(&agent, &streaming("Start", &start)).await;
        stream.read_exact(&mut [0; 200]).await.unwrap();
        deaf.push(stream);
    }
    lives(&agent).await;
    // 2 GB are on their way to nobody: each process waits for its client to read.
    assert!(!agent.home.join("over").exists());
    let list = post("List", "content-type: application/json\r\ncontent-length: 2\r\n", b"{}");
    assert_eq!(answer(&agent, &list).await.matches("\"pid\"").count(), 20);
}

fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        r#"\{"(process|start|data|input|pid|tag|stdin)":(\{|\[|"|[0-9]{1,12}|null|\}|\]|true){1,6}\}?"#
            .prop_map(String::into_bytes),
    ];
    let one = (any::<u8>(), content, prop_oneof![4 => Just(0i64), 1 => -4i64..4, 1 => Just(i64::from(u32::MAX))])
        .prop_map(|(flags, content, lie)| {
            let length =
                u32::try_from((content.len() as i64).saturating_add(lie).clamp(0, i64::from(u32::MAX))).unwrap();
            [&[flags & 0x83][..], &length.to_be_bytes(), &content].concat()
        });
    proptest::collection::vec(one, 0..4).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_frames_get_an_answer_and_break_nothing(
        frames in any_frames(),
        method in prop::sample::select(vec!["Start", "Connect", "StreamInput", "SendInput", "Update", "List", "CloseStdin"]),
        kind in prop::sample::select(vec!["connect+json", "connect+proto", "json", "proto", "grpc-web+proto", "grpc-web+json", "grpc"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let agent = agent().await;
            let headers = format!("content-type: application/{kind}\r\ncontent-length: {}\r\n", frames.len());
            let told = answer(&agent, &post(method, &headers, &frames)).await;
            assert!(told.starts_with("HTTP/1.1 "), "{told}");
            assert_eq!(agent.get("/health").await.status, 204);
        });
    }
}
