//! Fifty snapshots under what users keep running: nothing that should live is lost, nothing hangs.

use std::time::Duration;

use dormouse_agent_proto::filesystem::{CreateWatcherRequest, EventType, GetWatcherEventsRequest, WatchDirRequest};
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

/// Watches the served folder for clients that poll; the watcher's id.
async fn watch(guest: &Guest) -> String {
    let request = CreateWatcherRequest { path: "/srv/www".into(), recursive: true, ..Default::default() };
    guest.rpc.filesystem.create_watcher(request).await.unwrap().into_owned().watcher_id
}

/// Names of the entries that came into being since the last call.
async fn created(guest: &Guest, watcher: &str) -> Vec<String> {
    let request = GetWatcherEventsRequest { watcher_id: watcher.into(), ..Default::default() };
    let events = guest.rpc.filesystem.get_watcher_events(request).await.unwrap().into_owned().events;
    let created = events.into_iter().filter(|event| event.r#type.as_known() == Some(EventType::EVENT_TYPE_CREATE));
    created.map(|event| event.name).collect()
}

/// Ports from 8000 to 8009 that have a server, as `port address forwarded`.
async fn ports(guest: &Guest) -> Vec<String> {
    let ask = format!("curl -sf -H 'x-access-token: {}' http://127.0.0.1:49983/ports", guest.token);
    let list: serde_json::Value = serde_json::from_str(&guest.sh(&ask).await).unwrap();
    let ours = list["ports"].as_array().unwrap().iter().filter(|one| matches!(one["port"].as_u64(), Some(8000..8010)));
    let mut words: Vec<_> =
        ours.map(|one| format!("{} {} {}", one["port"], one["address"], one["forwarded"])).collect();
    words.sort();
    words
}

/// Waits until exactly those servers are listed that there are, each forwarded or not as it must be.
async fn ports_are_right(guest: &Guest) {
    let right = [r#"8000 "127.0.0.1" true"#, r#"8001 "::1" true"#, r#"8002 "0.0.0.0" false"#];
    let waiting = async {
        while ports(guest).await != right {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("ports are {:?}", ports(guest).await);
    }
}

/// The end of a stream, which must be an error and not an end as if all had been told.
macro_rules! ends_with_an_error {
    ($stream:expr, $what:expr) => {{
        let ending = async {
            loop {
                match $stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ending).await.unwrap_or_else(|_| panic!("{} hangs", $what));
        assert!(ended, "{} ended as if nothing was missing", $what);
    }};
}

#[test]
fn servers_a_terminal_and_a_watcher_live_through_fifty_cycles() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh("mkdir -p /srv/www && echo 0 > /srv/www/cycle").await;
        for server in ["8000 --bind 127.0.0.1", "8001 --bind ::1", "8002 --bind 0.0.0.0"] {
            guest.sh(&format!("cd /srv/www && (setsid python3 -m http.server {server} >/dev/null 2>&1 &)")).await;
        }
        ports_are_right(&guest).await;
        let servers = guest.sh("pgrep -f '[h]ttp.server' | sort").await;
        let address = guest.sh("ip -4 -o addr show scope global | sed 's/.*inet \\([0-9.]*\\).*/\\1/'").await;
        let shell = open_terminal(&guest).await;
        type_and_read(&guest, shell, "n=0; echo count-$n", "count-0").await;
        let watcher = watch(&guest).await;

        for cycle in 1..=CYCLES {
            let before = Guest::of(host, &info.id).await;
            let request = ConnectRequest { process: terminal(shell).into(), ..Default::default() };
            let mut attached = before.rpc.process.connect(request).await.unwrap();
            let request = WatchDirRequest { path: "/srv/www".into(), ..Default::default() };
            let mut watching = before.rpc.filesystem.watch_dir(request).await.unwrap();
            assert!(watching.message().await.unwrap().is_some(), "the start");
            host.pause(&info.id, PauseOptions::default()).await.unwrap();
            let (_, connected) = host.connect(&info.id, AN_HOUR).await.unwrap();
            assert_eq!(connected, Connected::Resumed);
            ends_with_an_error!(attached, format!("the terminal's stream of cycle {cycle}"));
            ends_with_an_error!(watching, format!("the watch's stream of cycle {cycle}"));

            let guest = Guest::of(host, &info.id).await;
            // On the loopback, and where only the agent's forwarder listens.
            for place in [
                "127.0.0.1:8000",
                "[::1]:8001",
                "127.0.0.1:8002",
                &format!("{address}:8000"),
                &format!("{address}:8001"),
            ] {
                let ask = format!("curl -sf --max-time 60 --retry 20 --retry-connrefused http://{place}/cycle");
                assert_eq!(guest.sh(&ask).await, (cycle - 1).to_string(), "the server at {place} in cycle {cycle}");
            }
            guest.sh(&format!("touch /srv/www/new-{cycle}; echo {cycle} > /srv/www/cycle")).await;
            assert_eq!(
                created(&guest, &watcher).await,
                [format!("new-{cycle}")],
                "what the watcher saw in cycle {cycle}"
            );
            type_and_read(&guest, shell, "n=$((n+1)); echo count-$n", &format!("count-{cycle}\r")).await;
            ports_are_right(&guest).await;
        }
        let guest = Guest::of(host, &info.id).await;
        assert_eq!(guest.sh("pgrep -f '[h]ttp.server' | sort").await, servers, "they are the same processes");
        host.kill(&info.id).await.unwrap();
    });
}
