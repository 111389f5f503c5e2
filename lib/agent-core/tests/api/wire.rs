//! The bytes on the wire: Connect frames in both codecs, and gRPC-Web, as clients that are not ours speak them.

use connectrpc::ErrorCode;
use dormouse_agent_proto::client::CallOptions;
use dormouse_agent_proto::process::stream_input_request::{DataEvent, Event as InputEvent, KeepAlive, StartEvent};
use dormouse_agent_proto::process::{ConnectRequest, ListRequest, ProcessInput, StartRequest, StreamInputRequest};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_input::Input;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Answer, TestAgent, agent, by_pid, live, shell, stretched};

/// One frame: flags, length, content.
pub(crate) fn frame(content: &str) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), content.as_bytes()].concat()
}

/// The body of an answer, which may be chunked.
fn unchunked(answer: &Answer) -> Vec<u8> {
    if !answer.has("transfer-encoding: chunked") {
        return answer.body.clone();
    }
    let (mut rest, mut body) = (answer.body.as_slice(), Vec::new());
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        if size == 0 {
            return body;
        }
        rest = &rest[line + 2 + size + 2..];
    }
}

/// Flags and content of each frame.
fn frames(body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut frames) = (body, Vec::new());
    while let [flags, a, b, c, d, content @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*flags, content[..length].to_vec()));
        rest = &content[length..];
    }
    assert!(rest.is_empty());
    frames
}

async fn call(agent: &TestAgent, method: &str, kind: &str, body: &[u8]) -> Answer {
    let kind = format!("content-type: {kind}");
    agent.http(&format!("POST /process.Process/{method}"), &[&kind, "connect-protocol-version: 1"], body).await
}

/// Calls a method that is no stream with the JSON codec.
async fn single(agent: &TestAgent, method: &str, body: &[u8]) -> (u16, Value) {
    let answer = call(agent, method, "application/json", body).await;
    (answer.status, serde_json::from_slice(&unchunked(&answer)).unwrap())
}

/// Calls a streaming method with the JSON codec.
async fn stream(agent: &TestAgent, method: &str, messages: &[Value]) -> Vec<(u8, Value)> {
    let body: Vec<u8> = messages.iter().flat_map(|message| frame(&message.to_string())).collect();
    let answer = call(agent, method, "application/connect+json", &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.has("content-type: application/connect+json"), "{}", answer.head);
    let parse = |(flags, content): (u8, Vec<u8>)| (flags, serde_json::from_slice(&content).unwrap());
    frames(&unchunked(&answer)).into_iter().map(parse).collect()
}

#[tokio::test]
async fn a_json_stream_is_start_then_data_then_end_then_the_closing_frame() {
    let agent = agent().await;
    let request = json!({"process": {"cmd": "/bin/sh", "args": ["-c", "echo hi; exit 3"]}, "stdin": false});
    let told = stream(&agent, "Start", &[request]).await;
    let flags: Vec<_> = told.iter().map(|(flags, _)| *flags).collect();
    assert_eq!(flags, [0, 0, 0, 2]);
    assert!(told[0].1["event"]["start"]["pid"].as_u64().unwrap() > 1);
    assert_eq!(told[1].1, json!({"event": {"data": {"stdout": "aGkK"}}}));
    let end = json!({"exitCode": 3, "exited": true, "status": "exit status 3", "error": "exit status 3"});
    assert_eq!(told[2].1, json!({"event": {"end": end}}));
    assert_eq!(told[3].1, json!({}));
}

#[tokio::test]
async fn an_error_of_a_stream_stands_in_its_closing_frame() {
    let agent = agent().await;
    let told = stream(&agent, "Connect", &[json!({"process": {"pid": 999_999}})]).await;
    assert_eq!((told.len(), told[0].0), (1, 2));
    assert_eq!(told[0].1["error"]["code"], "not_found");
    assert!(told[0].1["error"]["message"].as_str().unwrap().contains("999999"));
}

#[tokio::test]
async fn an_error_of_a_single_call_is_a_status_and_a_code() {
    let agent = agent().await;
    let body = br#"{"process":{"pid":999999},"signal":"SIGNAL_SIGKILL"}"#;
    let (status, answer) = single(&agent, "SendSignal", body).await;
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    assert_eq!(single(&agent, "List", b"{}").await, (200, json!({})));
    let (status, answer) = single(&agent, "List", b"{").await;
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")));
}

#[tokio::test]
async fn a_process_that_is_not_there_is_not_found_whatever_is_asked_of_it() {
    let agent = agent().await;
    for (method, rest) in [
        ("SendSignal", json!({"signal": "SIGNAL_SIGTERM"})),
        ("SendInput", json!({"input": {"stdin": "YQ=="}})),
        ("SendInput", json!({"input": {"pty": "YQ=="}})),
        ("CloseStdin", json!({})),
        ("Update", json!({"pty": {"size": {"cols": 1, "rows": 1}}})),
    ] {
        for selector in [json!({"pid": 999_999}), json!({"tag": "nobody"})] {
            let mut body = rest.clone();
            body["process"] = selector;
            let (status, answer) = single(&agent, method, body.to_string().as_bytes()).await;
            assert_eq!((status, &answer["code"]), (404, &json!("not_found")), "{method}");
        }
        let (status, answer) = single(&agent, method, rest.to_string().as_bytes()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")), "{method} of nobody");
    }
}

#[tokio::test]
async fn a_stream_of_input_ends_at_its_time_limit() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(StartRequest { stdin: Some(true), ..shell("cat") }));
    let head = "POST /process.Process/StreamInput HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 300\r\n\
                content-type: application/connect+json\r\ntransfer-encoding: chunked\r\n\r\n";
    let start = frame(&json!({"start": {"process": {"pid": live.ran.pid}}}).to_string());
    let mut open = tokio::net::TcpStream::connect(agent.address).await.unwrap();
    open.write_all(head.as_bytes()).await.unwrap();
    open.write_all(&[format!("{:x}\r\n", start.len()).as_bytes(), &start, b"\r\n"].concat()).await.unwrap();
    let mut told = String::new();
    let reading = async {
        while !told.contains("deadline_exceeded") {
            let mut some = [0; 1024];
            let count = open.read(&mut some).await.unwrap();
            assert!(count > 0, "{told}");
            told.push_str(&String::from_utf8_lossy(&some[..count]));
        }
    };
    tokio::time::timeout(stretched(std::time::Duration::from_secs(10)), reading).await.expect("at its limit");
    assert_eq!(agent.rpc.process.list(ListRequest::default()).await.unwrap().into_owned().processes.len(), 1);
}

#[tokio::test]
async fn a_json_stream_feeds_standard_input_past_signs_of_life() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(StartRequest { stdin: Some(true), ..shell("head -c 2; echo; cat") }));
    let pid = live.ran.pid;
    let told = stream(
        &agent,
        "StreamInput",
        &[
            json!({"start": {"process": {"pid": pid}}}),
            json!({"data": {"input": {"stdin": "YQ=="}}}),
            json!({"keepalive": {}}),
            json!({"data": {"input": {"stdin": "Yg=="}}}),
        ],
    )
    .await;
    assert_eq!(told, [(0, json!({})), (2, json!({}))]);
    let close = json!({"process": {"pid": pid}}).to_string();
    assert_eq!(call(&agent, "CloseStdin", "application/json", close.as_bytes()).await.status, 200);
    assert_eq!(live.end().await.stdout, "ab\n");
}

fn input(event: impl Into<InputEvent>) -> StreamInputRequest {
    StreamInputRequest { event: Some(event.into()), ..Default::default() }
}

fn name(pid: u32) -> StreamInputRequest {
    input(StartEvent { process: by_pid(pid).into(), ..Default::default() })
}

fn data(text: &str) -> StreamInputRequest {
    let text = ProcessInput { input: Some(Input::Stdin(text.into())), ..Default::default() };
    input(DataEvent { input: text.into(), ..Default::default() })
}

#[tokio::test]
async fn a_binary_stream_feeds_standard_input() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(StartRequest { stdin: Some(true), ..shell("head -c 6") }));
    let messages = vec![name(live.ran.pid), data("one"), input(KeepAlive::default()), data("two")];
    agent.rpc.process.stream_input(connectrpc::stream_iter(messages)).await.unwrap();
    assert_eq!(live.end().await.stdout, "onetwo");
}

#[tokio::test]
async fn a_stream_of_input_must_name_its_process_once_and_first() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(StartRequest { stdin: Some(true), ..shell("sleep 20") }));
    let pid = live.ran.pid;
    for (messages, code) in [
        (vec![data("x")], ErrorCode::InvalidArgument),
        (vec![name(pid), name(pid)], ErrorCode::InvalidArgument),
        (vec![StreamInputRequest::default()], ErrorCode::InvalidArgument),
        (vec![name(999_999)], ErrorCode::NotFound),
    ] {
        assert_eq!(agent.rpc.process.stream_input(connectrpc::stream_iter(messages)).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn the_time_limit_of_an_attached_client_ends_its_stream_and_not_the_process() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(shell("sleep 1; echo alive; exit 5")));
    let request = ConnectRequest { process: by_pid(live.ran.pid).into(), ..Default::default() };
    let options = CallOptions::default().with_header("connect-timeout-ms", "200");
    let mut attached = agent.rpc.process.connect_with_options(request, options).await.unwrap();
    assert!(attached.message().await.unwrap().is_some(), "the start");
    assert_eq!(attached.message().await.unwrap_err().code, ErrorCode::DeadlineExceeded);
    let ran = live.end().await;
    assert_eq!((ran.stdout.as_str(), ran.exit_code), ("alive\n", Some(5)));
}

#[tokio::test]
async fn grpc_web_is_spoken_too() {
    let agent = agent().await;
    // StartRequest{process{cmd: "/bin/true"}, stdin: false}.
    let message = [&[0x0a, 11, 0x0a, 9][..], b"/bin/true", &[0x20, 0]].concat();
    let body = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let answer = call(&agent, "Start", "application/grpc-web+proto", &body).await;
    assert_eq!(answer.status, 200);
    let told = frames(&unchunked(&answer));
    assert_eq!(told.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [0, 0, 0x80], "start, end, trailers");
    let trailers = String::from_utf8_lossy(&told[2].1).to_ascii_lowercase();
    assert!(trailers.contains("grpc-status: 0") || trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn input_that_nobody_takes_waits_and_ends_with_the_process() {
    let agent = agent().await;
    let mut live =
        live!(agent.rpc.process.start(StartRequest { stdin: Some(true), ..shell("head -c 1; exec sleep 20") }));
    let pid = live.ran.pid;
    let messages = vec![name(pid), data(&"x".repeat(1 << 20))];
    let feeding = agent.rpc.process.stream_input(connectrpc::stream_iter(messages));
    let killing = async {
        live.until(|ran| ran.stdout == "x").await;
        let kill = format!(r#"{{"process":{{"pid":{pid}}},"signal":"SIGNAL_SIGKILL"}}"#);
        call(&agent, "SendSignal", "application/json", kill.as_bytes()).await
    };
    let (fed, killed) = tokio::join!(feeding, killing);
    assert_eq!((fed.unwrap_err().code, killed.status), (ErrorCode::FailedPrecondition, 200));
    assert_eq!(live.end().await.exit_code, Some(-1));
}
