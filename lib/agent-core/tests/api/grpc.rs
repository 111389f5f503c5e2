//! gRPC over HTTP/2, and what that connection does around a snapshot.

use std::time::Duration;

use connectrpc::client::{ClientConfig, HttpClient};
use connectrpc::{ErrorCode, Protocol};
use dormouse_agent_core::Durations;
use dormouse_agent_proto::process::{ListRequest, ProcessClient, SendSignalRequest, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Ran, TestAgent, agent, agent_with, by_pid, live, shell, stretched};

/// How a client begins: the preface, and settings without any.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PATIENCE: Duration = Duration::from_secs(30);

fn client(agent: &TestAgent) -> ProcessClient<HttpClient> {
    let config = ClientConfig::new(format!("http://{}", agent.address).parse().unwrap());
    ProcessClient::new(HttpClient::plaintext_http2_only(), config.with_protocol(Protocol::Grpc))
}

async fn run(client: &ProcessClient<HttpClient>, script: &str) -> Ran {
    let mut stream = client.start(shell(script)).await.unwrap();
    let mut ran = Ran::default();
    while let Some(message) = stream.message().await.unwrap() {
        ran.take(message.to_owned_message().event.into_option().unwrap());
    }
    ran
}

/// Reads until the agent closes the connection.
async fn closes(mut stream: TcpStream) {
    let reading = async {
        let mut some = [0; 4096];
        while stream.read(&mut some).await.is_ok_and(|count| count > 0) {}
    };
    timeout(stretched(PATIENCE), reading).await.expect("the agent closes the connection");
}

#[tokio::test]
async fn single_calls_and_streams_work_over_one_connection() {
    let agent = agent().await;
    let client = client(&agent);
    let sleeper = live!(client.start(shell("sleep 1000")));
    let pid = sleeper.ran.pid;
    let list = client.list(ListRequest::default()).await.unwrap().into_owned();
    assert_eq!(list.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    let ran = run(&client, "head -c 3000000 /dev/zero | tr '\\0' y; echo over >&2; exit 7").await;
    assert_eq!((ran.stdout.len(), ran.stderr.as_str(), ran.exit_code), (3_000_000, "over\n", Some(7)));
    let kill =
        SendSignalRequest { process: by_pid(pid).into(), signal: Signal::SIGNAL_SIGKILL.into(), ..Default::default() };
    client.send_signal(kill.clone()).await.unwrap();
    assert_eq!(sleeper.end().await.status, "signal: killed");
    assert_eq!(
        client.send_signal(SendSignalRequest { process: by_pid(1).into(), ..kill }).await.unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn a_stream_over_http2_is_cut_off_by_a_snapshot_and_ends_with_an_error() {
    let agent = agent().await;
    let client = client(&agent);
    let mut stream = client.start(shell("sleep 1000")).await.unwrap();
    assert!(stream.message().await.unwrap().is_some(), "the start");
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    let rest = async {
        while stream.message().await?.is_some() {}
        Ok::<_, connectrpc::ConnectError>(())
    };
    timeout(stretched(PATIENCE), rest)
        .await
        .expect("the stream hangs")
        .expect_err("it ended as if nothing was missing");
    let refused = client.list(ListRequest::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204);
    assert_eq!(run(&client, "echo on").await.stdout, "on\n");
}

#[tokio::test]
async fn an_idle_connection_of_http2_does_not_outlast_a_prepare() {
    let agent = agent().await;
    let mut idle = TcpStream::connect(agent.address).await.unwrap();
    idle.write_all(BEGIN).await.unwrap();
    idle.read_exact(&mut [0; 9]).await.unwrap();
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    closes(idle).await;
}

#[tokio::test]
async fn a_client_of_http2_that_is_idle_goes_when_it_is_told_to() {
    let agent = agent().await;
    let client = client(&agent);
    client.list(ListRequest::default()).await.unwrap();
    let report = agent.http("POST /snapshot/prepare", &["accept: application/json"], b"").await.json();
    let step = report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "connections").unwrap();
    assert_eq!(step["outcome"], "ok", "it did not have to be cut off: {report}");
}

/// A frame that the agent sends: its kind, its stream, what it holds.
async fn frame(stream: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut content = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut content).await.unwrap();
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), content)
}

#[tokio::test]
async fn what_a_connection_of_http2_may_cost_is_bounded() {
    let agent = agent().await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(BEGIN).await.unwrap();
    let (kind, _, settings) = timeout(stretched(PATIENCE), frame(&mut stream)).await.unwrap();
    assert_eq!(kind, 4, "settings come first");
    let setting = |wanted: u16| {
        let mut each = settings.chunks(6).map(|one| (u16::from_be_bytes([one[0], one[1]]), &one[2..]));
        each.find(|(id, _)| *id == wanted).map(|(_, value)| u32::from_be_bytes(value.try_into().unwrap()))
    };
    assert!(setting(3).is_some_and(|requests| requests <= 64), "requests at a time: {settings:?}");
    assert!(setting(4).is_some_and(|window| window <= 64 << 10), "unread of one: {settings:?}");
    assert!(setting(5).is_none_or(|frame| frame <= 64 << 10), "of a frame: {settings:?}");
    // A window for the whole connection opens at 65535 and grows by what is told.
    let mut window = 65_535;
    while let (kind, 0, content) = timeout(stretched(PATIENCE), frame(&mut stream)).await.unwrap() {
        if kind == 8 {
            window += u32::from_be_bytes(content.try_into().unwrap());
        } else if kind == 4 {
            // Our settings are acknowledged: all that the agent says by itself was said.
            break;
        }
    }
    assert!(window <= 256 << 10, "unread of all: {window}");
}

#[tokio::test]
async fn who_begins_with_http2_and_says_nothing_more_or_nonsense_is_cut_off() {
    let agent = agent_with(Durations { request_head: Duration::from_millis(500), ..Durations::default() }, false).await;
    // The head of a request that never ends: a frame of headers without its end.
    let half = [BEGIN, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat();
    let nonsense = [BEGIN, &[0xff; 100]].concat();
    for bytes in [BEGIN, &BEGIN[..4], &BEGIN[..24], &half, &nonsense, b"P", b""] {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(agent.get("/health").await.status, 204);
        closes(stream).await;
    }
}

#[tokio::test]
async fn a_connection_of_http2_with_a_request_under_way_is_not_idle() {
    let agent = agent_with(Durations { request_head: Duration::from_millis(200), ..Durations::default() }, false).await;
    let client = client(&agent);
    let ran = run(&client, "sleep 2; echo done").await;
    assert_eq!((ran.stdout.as_str(), ran.exit_code), ("done\n", Some(0)));
}
