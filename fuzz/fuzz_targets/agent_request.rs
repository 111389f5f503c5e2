//! Any request to the agent: paths, headers, Connect frames in every codec. Its user database is empty, so nothing is started or changed.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dormouse_agent_core::{Agent, AgentOptions, testing};
use http::Request;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const METHODS: [&str; 8] =
    ["List", "Start", "Connect", "Update", "StreamInput", "SendInput", "SendSignal", "CloseStdin"];
const KINDS: [&str; 8] = [
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc-web+proto",
    "application/grpc-web+json",
    "application/grpc",
    "multipart/form-data; boundary=b",
];
/// Far longer than any request of this size takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn nobody() -> Arc<Agent> {
    let mut options = AgentOptions::plain("nobody");
    options.passwd = "/dev/null".into();
    options.group = "/dev/null".into();
    Agent::new(options)
}

fuzz_target!(|data: &[u8]| {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
    let [choice, rest @ ..] = data else { return };
    let kind = KINDS[usize::from(choice & 7)];
    let (path, body) = match choice >> 3 {
        method @ 0..8 => (format!("/process.Process/{}", METHODS[usize::from(method)]), rest),
        8 => ("/init".to_owned(), rest),
        9 => ("/files?path=x&username=y".to_owned(), rest),
        _ => {
            // Any path: up to the first line end.
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            (format!("/{}", String::from_utf8_lossy(&rest[..end])), rest.get(end + 1..).unwrap_or_default())
        }
    };
    let request = Request::post(path).header("content-type", kind).header("connect-timeout-ms", "5000");
    let Ok(request) = request.body(body.to_vec()) else { return };
    let answer = RUNTIME.block_on(testing::ask(&nobody(), request, PATIENCE));
    assert!(answer.is_some(), "no answer");
});
