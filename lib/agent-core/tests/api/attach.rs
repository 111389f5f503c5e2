//! Attaching to processes, and terminals.

use std::time::Duration;

use connectrpc::ErrorCode;
use dormouse_agent_core::Durations;
use dormouse_agent_proto::process::pty::Size;
use dormouse_agent_proto::process::{
    ConnectRequest, PTY, ProcessInput, ProcessSelector, SendInputRequest, StartRequest, UpdateRequest,
};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_input::Input;

use crate::support::{TestAgent, agent, agent_with, by_pid, by_tag, live, shell};

fn attach(process: ProcessSelector) -> ConnectRequest {
    ConnectRequest { process: process.into(), ..Default::default() }
}

fn pty(cols: u32, rows: u32) -> PTY {
    PTY { size: Size { cols, rows, ..Default::default() }.into(), ..Default::default() }
}

async fn type_in(agent: &TestAgent, pid: u32, text: &str) {
    let request = SendInputRequest {
        process: by_pid(pid).into(),
        input: ProcessInput { input: Some(Input::Pty(text.into())), ..Default::default() }.into(),
        ..Default::default()
    };
    agent.rpc.process.send_input(request).await.unwrap();
}

#[tokio::test]
async fn a_second_client_sees_what_comes_after_it_attached() {
    let agent = agent().await;
    let mut request = shell("read line; echo \"got $line\"");
    request.stdin = Some(true);
    request.tag = Some("t".into());
    let first = live!(agent.rpc.process.start(request));
    let second = live!(agent.rpc.process.connect(attach(by_tag("t"))));
    assert_eq!(first.ran.pid, second.ran.pid);
    let input = SendInputRequest {
        process: by_tag("t").into(),
        input: ProcessInput { input: Some(Input::Stdin(b"hi\n".to_vec())), ..Default::default() }.into(),
        ..Default::default()
    };
    agent.rpc.process.send_input(input).await.unwrap();
    for ran in [first.end().await, second.end().await] {
        assert_eq!((ran.stdout.as_str(), ran.exit_code), ("got hi\n", Some(0)));
    }
}

#[tokio::test]
async fn an_ended_process_can_be_attached_to_for_a_while_and_no_longer() {
    let durations = Durations { late_connect: Duration::from_millis(300), ..Durations::default() };
    let agent = agent_with(durations, false).await;
    let pid = agent.sh("exit 3").await.pid;
    let late = live!(agent.rpc.process.connect(attach(by_pid(pid)))).end().await;
    assert_eq!((late.pid, late.exit_code), (pid, Some(3)));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut gone = agent.rpc.process.connect(attach(by_pid(pid))).await.unwrap();
    assert_eq!(gone.message().await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_unknown_process_is_not_found_and_a_nameless_one_is_an_error() {
    let agent = agent().await;
    let mut stream = agent.rpc.process.connect(attach(by_pid(999_999))).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code, ErrorCode::NotFound);
    let mut stream = agent.rpc.process.connect(attach(ProcessSelector::default())).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes_and_is_the_controlling_one() {
    let agent = agent().await;
    let request = StartRequest { pty: pty(100, 30).into(), ..shell("stty size; read x; stty size; tty < /dev/tty") };
    let mut live = live!(agent.rpc.process.start(request));
    let pid = live.ran.pid;
    live.until(|ran| ran.pty.contains("30 100")).await;
    let resize = UpdateRequest { process: by_pid(pid).into(), pty: pty(10, 5).into(), ..Default::default() };
    agent.rpc.process.update(resize).await.unwrap();
    type_in(&agent, pid, "\n").await;
    let ran = live.end().await;
    assert!(ran.pty.contains("5 10") && ran.pty.contains("/dev/"), "{:?}", ran.pty);
    assert_eq!(ran.exit_code, Some(0));
}

#[tokio::test]
async fn control_c_on_a_terminal_interrupts() {
    let agent = agent().await;
    let request = StartRequest { pty: pty(80, 24).into(), ..shell("trap 'echo caught; exit 4' INT; echo set; read x") };
    let mut live = live!(agent.rpc.process.start(request));
    live.until(|ran| ran.pty.contains("set")).await;
    type_in(&agent, live.ran.pid, "\u{3}").await;
    let ran = live.end().await;
    assert!(ran.pty.contains("caught"), "{:?}", ran.pty);
    assert_eq!(ran.exit_code, Some(4));
}

#[tokio::test]
async fn input_of_the_wrong_kind_is_refused() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(shell("sleep 20")));
    let pid = live.ran.pid;
    for input in [Input::Pty(b"x".to_vec()), Input::Stdin(b"x".to_vec())] {
        let request = SendInputRequest {
            process: by_pid(pid).into(),
            input: ProcessInput { input: Some(input), ..Default::default() }.into(),
            ..Default::default()
        };
        assert_eq!(agent.rpc.process.send_input(request).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    }
    let resize = UpdateRequest { process: by_pid(pid).into(), pty: pty(10, 5).into(), ..Default::default() };
    assert_eq!(agent.rpc.process.update(resize).await.unwrap_err().code, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn in_a_guest_processes_with_a_terminal_live_apart_from_the_others() {
    let agent = agent_with(Durations::default(), true).await;
    let (pty_cgroup, user) = (agent.pty_cgroup_file("cgroup.procs"), agent.cgroup_file("cgroup.procs"));
    let entered = || [&pty_cgroup, &user].map(|file| std::fs::read_to_string(file).unwrap());
    agent.sh("true").await;
    assert_eq!(entered(), ["", "0"]);
    let request = StartRequest { pty: pty(80, 24).into(), ..shell("true") };
    agent.run(request).await.unwrap();
    assert_eq!(entered(), ["0", "0"]);
}

#[tokio::test]
async fn much_output_on_a_terminal_comes_whole_before_the_end() {
    let agent = agent().await;
    let request = StartRequest { pty: pty(80, 24).into(), ..shell("head -c 300000 /dev/zero | tr '\\0' x") };
    let ran = agent.run(request).await.unwrap();
    assert_eq!((ran.pty.len(), ran.exit_code), (300_000, Some(0)));
    assert!(ran.largest <= 16 * 1024, "{}", ran.largest);
}
