//! How processes end: signals, time limits, clients and descendants that stay or leave.

use connectrpc::ErrorCode;
use dormouse_agent_proto::client::CallOptions;
use dormouse_agent_proto::process::{ConnectRequest, ListRequest, SendSignalRequest, Signal, StartRequest};

use crate::support::{agent, by_pid, by_tag, eventually, live, shell};

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    let agent = agent().await;
    let mut live = live!(agent.rpc.process.start(shell("sleep 20 & echo $!; wait")));
    live.until(|ran| ran.stdout.ends_with('\n')).await;
    let grandchild = format!("/proc/{}/stat", live.ran.stdout.trim());
    assert!(std::fs::exists(&grandchild).unwrap());
    let request = SendSignalRequest {
        process: by_pid(live.ran.pid).into(),
        signal: Signal::SIGNAL_SIGKILL.into(),
        ..Default::default()
    };
    agent.rpc.process.send_signal(request.clone()).await.unwrap();
    let ran = live.end().await;
    assert_eq!((ran.exit_code, ran.status.as_str()), (Some(-1), "signal: killed"));
    // Without a PID 1 of ours a zombie may stay; it must not run.
    eventually("the grandchild is dead", async || {
        std::fs::read_to_string(&grandchild).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
    let error = agent.rpc.process.send_signal(request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group_and_its_client_learns_why() {
    let agent = agent().await;
    let options = CallOptions::default().with_header("connect-timeout-ms", "1500");
    let mut request = shell("sleep 300 & echo $! > grandchild; wait");
    request.tag = Some("late".into());
    let error = agent.run_with(request, options).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    let attach = ConnectRequest { process: by_tag("late").into(), ..Default::default() };
    let attached = live!(agent.rpc.process.connect(attach)).end().await;
    assert_eq!((attached.exit_code, attached.status.as_str()), (Some(-1), "signal: killed"));
    let pid = std::fs::read_to_string(agent.home.join("grandchild")).unwrap();
    let grandchild = format!("/proc/{}/stat", pid.trim());
    eventually("the grandchild is dead", async || {
        std::fs::read_to_string(&grandchild).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_process() {
    let agent = agent().await;
    let mut request = shell("sleep 0.3; echo done > left; sleep 20");
    request.tag = Some("stays".into());
    request.process.get_or_insert_default().envs = [("A".to_owned(), "1".to_owned())].into_iter().collect();
    request.process.get_or_insert_default().cwd = Some("~".into());
    let live = live!(agent.rpc.process.start(request));
    let pid = live.ran.pid;
    drop(live);
    let done = agent.home.join("left");
    eventually("the process went on", async || done.exists()).await;
    let listed = agent.rpc.process.list(ListRequest::default()).await.unwrap().into_owned();
    assert_eq!(listed.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [pid]);
    assert_eq!(listed.processes[0].tag.as_deref(), Some("stays"));
    let config = &listed.processes[0].config;
    assert_eq!((config.cmd.as_str(), config.args.len(), config.args[0].as_str()), ("/bin/sh", 2, "-c"));
    assert_eq!((config.envs.get("A").map(String::as_str), config.cwd.as_deref()), (Some("1"), Some("~")));
    let kill = SendSignalRequest {
        process: by_tag("stays").into(),
        signal: Signal::SIGNAL_SIGKILL.into(),
        ..Default::default()
    };
    agent.rpc.process.send_signal(kill).await.unwrap();
    eventually("the list is empty", async || {
        agent.rpc.process.list(ListRequest::default()).await.unwrap().into_owned().processes.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_descendant_that_keeps_the_output_open_does_not_hold_the_end_back() {
    let agent = agent().await;
    let script = "(until [ -e go ]; do sleep 0.05; done; echo late; echo alive > survived) & echo now";
    let ran = agent.sh(script).await;
    assert_eq!(ran.stdout, "now\n");
    std::fs::write(agent.home.join("go"), "").unwrap();
    let survived = agent.home.join("survived");
    eventually("its late output does not break it", async || survived.exists()).await;
}

#[tokio::test]
async fn a_tag_names_the_running_process_that_has_it() {
    let agent = agent().await;
    let tagged = || StartRequest { tag: Some("same".into()), ..shell("sleep 20") };
    let first = live!(agent.rpc.process.start(tagged()));
    let kill = SendSignalRequest {
        process: by_tag("same").into(),
        signal: Signal::SIGNAL_SIGTERM.into(),
        ..Default::default()
    };
    agent.rpc.process.send_signal(kill.clone()).await.unwrap();
    assert_eq!(first.end().await.status, "signal: terminated");
    let second = live!(agent.rpc.process.start(tagged()));
    agent.rpc.process.send_signal(kill.clone()).await.unwrap();
    assert_eq!(second.end().await.exit_code, Some(-1));
    assert_eq!(agent.rpc.process.send_signal(kill).await.unwrap_err().code, ErrorCode::NotFound);
}
