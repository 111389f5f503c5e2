//! Frames to a process that runs: input as a stream and alone, sizes, signals, followers, in every codec, cut anywhere. No method here
//! starts anything.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use dormouse_agent_core::{Agent, AgentOptions};
use dormouse_fuzz::{Asked, KINDS, end_after};
use http::Request;
use libfuzzer_sys::fuzz_target;

const METHODS: [&str; 8] =
    ["List", "Connect", "Update", "StreamInput", "SendInput", "SendSignal", "CloseStdin", "StreamInput"];
/// A process that takes input, whoever runs the fuzzer, and what is answered only while it runs and takes some.
const START: &[u8] = br#"{"process":{"cmd":"/bin/cat"},"tag":"t","stdin":true}"#;
const KILL: &[u8] = br#"{"process":{"tag":"t"},"signal":"SIGNAL_SIGKILL"}"#;
const INPUT: &[u8] = br#"{"process":{"tag":"t"},"input":{"stdin":"eA=="}}"#;
/// Clients that leave after this leave their process behind, if it was started by then: that takes long in a fuzzer.
const GLANCES: [u64; 4] = [20, 100, 1000, 10_000];

static AGENT: LazyLock<Asked> = LazyLock::new(|| Asked::new(Agent::new(AgentOptions::plain(Agent::own_user()))));

fn frame(flags: u8, content: &[u8]) -> Vec<u8> {
    [&[flags][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn post(method: &str, kind: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    Request::post(format!("/process.Process/{method}")).header("content-type", kind).body(body).unwrap()
}

fn takes_input() -> bool {
    AGENT.ask(post("SendInput", KINDS[0], INPUT.to_vec()), 64).is_success()
}

/// Puts a process with the tag `t` in the place of one that has ended, or takes no more input.
fn renew() {
    for glance in GLANCES {
        AGENT.ask(post("SendSignal", KINDS[0], KILL.to_vec()), 64);
        AGENT.ask_for(post("Start", KINDS[2], frame(0, START)), 64, Duration::from_millis(glance));
        if takes_input() {
            return;
        }
    }
    panic!("no process could be started");
}

fuzz_target!(|data: &[u8]| {
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
    end_after(&mut request, 10);
    if !takes_input() {
        renew();
    }
    AGENT.ask(request, *size);
});
