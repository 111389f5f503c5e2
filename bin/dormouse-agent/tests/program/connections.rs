//! More connections than anybody needs, all of which this process holds.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::running::{RunningAgent, whole_body};

const WANTED: usize = 10_000;
/// What the agent keeps of them at most.
const KEPT: usize = 1024;
/// Descriptors that this program needs for everything else.
const OTHERS: usize = 100;
/// Most memory that the agent may ever have had.
const MOST: u64 = 32 << 20;

/// Raises this program's limit, and tells how many of the wanted connections it can hold.
fn possible() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let most = limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()).saturating_sub(OTHERS);
    if most < WANTED {
        println!("this machine lets a process open no more: {most} connections instead of {WANTED}");
    }
    most.min(WANTED)
}

fn answers(agent: &RunningAgent) {
    assert_eq!(whole_body(agent.request("GET /health", ""), 204), "");
    let start = br#"{"process":{"cmd":"/bin/echo","args":["works"]},"stdin":false}"#;
    let headers = format!("content-type: application/connect+json\r\ncontent-length: {}\r\n", start.len() + 5);
    let mut request = agent.request("POST /process.Process/Start", &headers);
    request.write_all(&[&[0], &u32::try_from(start.len()).unwrap().to_be_bytes()[..], start].concat()).unwrap();
    let told = whole_body(request, 200);
    // "works\n" in base64.
    assert!(told.contains("d29ya3MK") && told.contains(r#""end""#), "{told}");
}

/// The agent has nothing to say on an idle connection but its end.
fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    closed
}

#[test]
fn ten_thousand_idle_connections_leave_the_agent_answering() {
    let agent = RunningAgent::start();
    let count = possible();
    let idle: Vec<_> = (0..count).map(|_| agent.connect()).collect();
    answers(&agent);
    let closed = idle.iter().filter(|stream| is_closed(stream)).count();
    println!("{count} idle connections: {closed} were closed, the agent has had {} bytes at most", agent.peak());
    assert!(closed >= count.saturating_sub(KEPT), "{closed} of {count} were closed to stay small");
    assert!(agent.peak() < MOST, "{} bytes", agent.peak());
    // Those that came last are as good as ever.
    for mut stream in idle.into_iter().rev().take(100) {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        whole_body(stream, 204);
    }
    answers(&agent);
}
