//! Any request to the agent: methods, paths, headers, bodies cut anywhere, Connect frames in every codec. Its user database is empty,
//! so nothing is started or changed.

#![no_main]

use std::sync::Arc;

use dormouse_agent_core::{Agent, AgentOptions};
use dormouse_fuzz::{Asked, KINDS, end_after};
use http::Request;
use libfuzzer_sys::fuzz_target;

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
/// In the place of what [`KINDS`] has twice.
const FORM: &str = "multipart/form-data; boundary=b";

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
    let kind = if more & 7 == 7 { FORM } else { KINDS[usize::from(more & 7)] };
    request = request.header("content-type", kind);
    // Up to three headers of any kind.
    for _ in 0..more >> 6 {
        let first;
        (first, rest) = line(rest);
        let at = first.iter().position(|byte| *byte == b':').unwrap_or(first.len());
        request = request.header(&first[..at], first.get(at + 1..).unwrap_or_default());
    }
    let Ok(mut request) = request.body(rest.to_vec()) else { return };
    end_after(&mut request, 50);
    // A stream of events ends only with its client.
    if request.uri().path() == "/ports/events" {
        return;
    }
    Asked::new(nobody()).ask(request, *size);
});
