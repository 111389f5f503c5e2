//! Any request to the agent: methods, paths, headers, bodies cut anywhere, Connect frames in every codec. Its user database is empty,
//! so nothing is started or changed.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dormouse_agent_core::{Agent, AgentOptions, testing};
use http::Request;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const VERBS: [&str; 4] = ["POST", "GET", "HEAD", "OPTIONS"];
const METHODS: [&str; 16] = [
    "/process.Process/List",
    "/process.Process/Start",
    "/process.Process/Connect",
    "/process.Process/StreamInput",
    "/process.Process/SendSignal",
    "/filesystem.Filesystem/Stat",
    "/filesystem.Filesystem/ListDir",
    "/filesystem.Filesystem/Move",
    "/filesystem.Filesystem/WatchDir",
    "/filesystem.Filesystem/CreateWatcher",
    "/filesystem.Filesystem/GetWatcherEvents",
    "/init",
    "/files?path=x&username=y",
    "/files/compose",
    "/freeze?maxWaitMs=1",
    "",
];
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

/// The first line of `bytes`, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fuzz_target!(|data: &[u8]| {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
    let [choice, more, size, rest @ ..] = data else { return };
    let mut rest = rest;
    let verb = VERBS[usize::from(choice & 3)];
    let mut path = METHODS[usize::from(choice >> 2 & 15)].to_owned();
    if path.is_empty() {
        let first;
        (first, rest) = line(rest);
        path = format!("/{}", String::from_utf8_lossy(first));
    }
    let mut request = Request::builder().method(verb).uri(path);
    // What ends calls that would go on for as long as their client wants.
    request = request.header("content-type", KINDS[usize::from(more & 7)]).header("connect-timeout-ms", "50");
    // Up to three headers of any kind.
    for _ in 0..more >> 6 {
        let first;
        (first, rest) = line(rest);
        let at = first.iter().position(|byte| *byte == b':').unwrap_or(first.len());
        request = request.header(&first[..at], first.get(at + 1..).unwrap_or_default());
    }
    let Ok(request) = request.body(rest.to_vec()) else { return };
    // A stream of events ends only with its client.
    if request.uri().path() == "/ports/events" {
        return;
    }
    let answer = RUNTIME.block_on(testing::ask(&nobody(), request, usize::from(*size), PATIENCE));
    assert!(answer.is_some(), "no answer");
});
