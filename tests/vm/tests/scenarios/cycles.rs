//! Fifty snapshots under what users keep running: nothing that should live is lost, nothing hangs.

use std::time::Duration;

use dormouse_agent_proto::process::process_event::{Event, data_event};
use dormouse_agent_proto::process::process_input::Input;
use dormouse_agent_proto::process::process_selector::Selector;
use dormouse_agent_proto::process::{
    ConnectRequest, PTY, ProcessConfig, ProcessInput, ProcessSelector, SendInputRequest, StartRequest,
};
use dormouse_lifecycle::{Connected, PauseOptions};
use dormouse_vm_tests::{Guest, block_on, host, sandbox};

const CYCLES: usize = 50;
const AN_HOUR: Duration = Duration::from_secs(3600);
/// Only what hangs takes longer, also under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn terminal(pid: u32) -> ProcessSelector {
    ProcessSelector { selector: Some(Selector::Pid(pid)), ..Default::default() }
}

/// An interactive shell; its pid.
async fn open_terminal(guest: &Guest) -> u32 {
    let shell =
        ProcessConfig { cmd: "/bin/bash".into(), args: vec!["--norc".into(), "-i".into()], ..Default::default() };
    let request = StartRequest { process: shell.into(), pty: PTY::default().into(), ..Default::default() };
    let mut events = guest.rpc.process.start(request).await.unwrap();
    let first = events.message().await.unwrap().expect("an event").to_owned_message();
    match first.event.into_option().and_then(|event| event.event) {
        Some(Event::Start(start)) => start.pid,
        other => panic!("the first event is {other:?}"),
    }
}

/// Types `line` into the terminal and reads until `answer` has come.
async fn type_and_read(guest: &Guest, pid: u32, line: &str, answer: &str) {
    let request = ConnectRequest { process: terminal(pid).into(), ..Default::default() };
    let mut events = guest.rpc.process.connect(request).await.unwrap();
    let input = ProcessInput { input: Some(Input::Pty(format!("{line}\n").into_bytes())), ..Default::default() };
    let request = SendInputRequest { process: terminal(pid).into(), input: input.into(), ..Default::default() };
    guest.rpc.process.send_input(request).await.unwrap();
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(answer) {
            let message = events.message().await.unwrap().expect("the terminal lives").to_owned_message();
            if let Some(Event::Data(data)) = message.event.into_option().and_then(|event| event.event)
                && let Some(data_event::Output::Pty(bytes)) = data.output
            {
                seen.extend_from_slice(&bytes);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {answer:?} on the terminal"));
}

#[test]
fn a_server_and_a_terminal_live_through_fifty_cycles() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("mkdir -p /srv/www && echo 0 > /srv/www/cycle").await;
        guest.sh("cd /srv/www && (setsid python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &)").await;
        guest.sh("for i in $(seq 300); do curl -sf http://127.0.0.1:8000/cycle >/dev/null && exit 0; sleep 0.1; done; exit 1").await;
        let server = guest.sh("pgrep -f '[h]ttp.server'").await;
        let shell = open_terminal(&guest).await;
        type_and_read(&guest, shell, "n=0; echo count-$n", "count-0").await;

        for cycle in 1..=CYCLES {
            let before = Guest::of(host, &info.id).await;
            let request = ConnectRequest { process: terminal(shell).into(), ..Default::default() };
            let mut open = before.rpc.process.connect(request).await.unwrap();
            host.pause(&info.id, PauseOptions::default()).await.unwrap();
            let (_, connected) = host.connect(&info.id, AN_HOUR).await.unwrap();
            assert_eq!(connected, Connected::Resumed);
            let ended = async { while let Ok(Some(_)) = open.message().await {} };
            tokio::time::timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("a stream hangs in cycle {cycle}"));

            let guest = Guest::of(host, &info.id).await;
            let said = guest.sh("curl -sf --max-time 60 http://127.0.0.1:8000/cycle").await;
            assert_eq!(said, (cycle - 1).to_string(), "the server in cycle {cycle}");
            guest.sh(&format!("echo {cycle} > /srv/www/cycle")).await;
            type_and_read(&guest, shell, "n=$((n+1)); echo count-$n", &format!("count-{cycle}\r")).await;
        }
        let guest = Guest::of(host, &info.id).await;
        assert_eq!(guest.sh("pgrep -f '[h]ttp.server'").await, server, "it is the same process");
        host.kill(&info.id).await.unwrap();
    });
}
