//! Frames to a process that runs: input as a stream and alone, sizes, signals, followers, in every codec, cut anywhere. No method here
//! starts anything.

#![no_main]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dormouse_agent_core::{Agent, AgentOptions, testing};
use http::Request;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const METHODS: [&str; 8] =
    ["List", "Connect", "Update", "StreamInput", "SendInput", "SendSignal", "CloseStdin", "StreamInput"];
const KINDS: [&str; 8] = [
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc-web+proto",
    "application/grpc-web+json",
    "application/grpc",
    "application/connect+json",
];
/// A process that takes input, whoever runs the fuzzer, and its end.
const START: &[u8] = br#"{"process":{"cmd":"/bin/cat"},"tag":"t","stdin":true}"#;
const KILL: &[u8] = br#"{"process":{"tag":"t"},"signal":"SIGNAL_SIGKILL"}"#;
/// Far longer than any request of this size takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// A client that leaves after this leaves its process behind.
const GLANCE: Duration = Duration::from_millis(20);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
static AGENT: LazyLock<Arc<Agent>> = LazyLock::new(|| Agent::new(AgentOptions::plain(Agent::own_user())));

fn frame(flags: u8, content: &[u8]) -> Vec<u8> {
    [&[flags][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn post(method: &str, kind: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    Request::post(format!("/process.Process/{method}")).header("content-type", kind).body(body).unwrap()
}

/// Puts a process with the tag `t` in the place of the last one.
async fn renew() {
    testing::ask(&AGENT, post("SendSignal", KINDS[0], KILL.to_vec()), 64, PATIENCE).await.expect("an answer");
    testing::ask(&AGENT, post("Start", KINDS[2], frame(0, START)), 64, GLANCE).await;
}

fuzz_target!(|data: &[u8]| {
    static FRESH: AtomicBool = AtomicBool::new(false);
    let [choice, size, rest @ ..] = data else { return };
    let (method, kind) = (METHODS[usize::from(choice >> 5)], KINDS[usize::from(choice >> 2 & 7)]);
    // Frames as they are given, or frames of a right length around each line.
    let body = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        rest.split(|byte| *byte == b'\n').flat_map(|line| frame(choice & 2, line)).collect()
    };
    let mut request = post(method, kind, body);
    // Ends whoever follows the process.
    request.headers_mut().insert("connect-timeout-ms", "10".parse().unwrap());
    RUNTIME.block_on(async {
        if !FRESH.swap(true, Ordering::Relaxed) {
            renew().await;
        }
        assert!(testing::ask(&AGENT, request, usize::from(*size), PATIENCE).await.is_some(), "no answer");
    });
    if matches!(method, "SendSignal" | "CloseStdin") {
        FRESH.store(false, Ordering::Relaxed);
    }
});
