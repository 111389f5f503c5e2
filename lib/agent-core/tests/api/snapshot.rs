//! Prepare, abort, restore, watchdog.

use std::time::Duration;

use connectrpc::ErrorCode;
use dormouse_agent_core::Durations;
use dormouse_agent_proto::control::{PrepareReport, StepOutcome};
use dormouse_agent_proto::process::{CloseStdinRequest, ConnectRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestAgent, agent, agent_with, by_tag, eventually, live, shell, stretched};

/// How many prepares ended so.
async fn prepares(agent: &TestAgent, how: &str) -> u64 {
    let text = agent.http("GET /metrics", &["accept: text/plain"], b"").await.body;
    let text = String::from_utf8(text).unwrap();
    let name = format!("dormouse_prepares_total{{outcome=\"{how}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

const JSON: &str = "accept: application/json";
const FREEZE: &str = r#"{"freeze":true}"#;

async fn prepare(agent: &TestAgent, body: &str) -> PrepareReport {
    let answer = agent.http("POST /snapshot/prepare", &[JSON], body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.has("cache-control: no-store"), "{}", answer.head);
    serde_json::from_value(answer.json()).unwrap()
}

fn outcome(report: &PrepareReport, name: &str) -> Option<StepOutcome> {
    report.steps.iter().find(|step| step.name == name).map(|step| step.outcome)
}

async fn is_open(agent: &TestAgent) -> bool {
    let status = agent.get("/files?path=missing").await.status;
    assert!(matches!(status, 404 | 503), "{status}");
    status == 404
}

#[tokio::test]
async fn a_plain_caller_gets_no_content_that_must_not_be_stored() {
    let agent = agent().await;
    let answer = agent.post("/snapshot/prepare", "").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert!(answer.has("cache-control: no-store"), "{}", answer.head);
}

#[tokio::test]
async fn the_report_lists_the_steps_in_their_order() {
    let agent = agent_with(Durations::default(), true).await;
    let report = prepare(&agent, r#"{"freeze":true,"trim":true}"#).await;
    let names: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["exclude", "connections", "ports", "freeze", "sync", "trim", "drain"]);
    for step in report.steps.iter().filter(|step| step.name != "trim") {
        assert_eq!(step.outcome, StepOutcome::Ok, "{step:?}");
    }
    assert!(report.mem_free > 0 && !report.kernel_release.is_empty() && report.boot_id.len() == 36, "{report:?}");
    assert_eq!(report.generation, 0, "before the first /init");
}

#[tokio::test]
async fn while_prepared_no_user_request_begins_and_abort_opens_again() {
    let agent = agent().await;
    prepare(&agent, "").await;
    assert!(!is_open(&agent).await);
    let refused = agent.run(shell("true")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert_eq!(agent.get("/health").await.status, 204);
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204);
    assert!(is_open(&agent).await);
    assert_eq!(agent.sh("echo on").await.stdout, "on\n");
}

#[tokio::test]
async fn a_second_prepare_is_a_conflict_until_the_first_is_undone() {
    let agent = agent().await;
    prepare(&agent, "").await;
    let second = agent.post("/snapshot/prepare", "").await;
    assert_eq!(second.status, 409);
    assert_eq!(second.json()["code"], 409);
    agent.post("/snapshot/abort", "").await;
    prepare(&agent, "").await;
}

/// Runs `meanwhile` while a prepare waits for processes to freeze, and then lets them.
async fn while_one_prepares(agent: &TestAgent, meanwhile: impl Future<Output = ()>) {
    eventually("freezing", async || std::fs::read(agent.cgroup_file("cgroup.freeze")).unwrap() == b"1").await;
    meanwhile.await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 1\n").unwrap();
}

#[tokio::test]
async fn of_two_prepares_at_once_one_wins() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 0\n").unwrap();
    let second = async {
        assert_eq!(agent.post("/snapshot/prepare", "").await.status, 409);
        assert!(!is_open(&agent).await);
    };
    // Which asserts that the first one wins.
    tokio::join!(prepare(&agent, FREEZE), while_one_prepares(&agent, second));
}

#[tokio::test]
async fn a_prepare_whose_caller_goes_away_is_completed() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 0\n").unwrap();
    let mut caller = TcpStream::connect(agent.address).await.unwrap();
    let head = format!("POST /snapshot/prepare HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", FREEZE.len());
    caller.write_all(format!("{head}{FREEZE}").as_bytes()).await.unwrap();
    while_one_prepares(&agent, async { drop(caller) }).await;
    eventually("prepared", async || prepares(&agent, "prepared").await == 1).await;
    assert!(!is_open(&agent).await);
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204);
    assert!(is_open(&agent).await);
}

#[tokio::test]
async fn abort_without_prepare_is_fine() {
    let agent = agent().await;
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204);
    assert!(is_open(&agent).await);
}

#[tokio::test]
async fn init_ends_the_prepared_state_once_per_generation() {
    let agent = agent().await;
    prepare(&agent, "").await;
    assert_eq!(agent.post("/init", r#"{"generation":5}"#).await.status, 204);
    assert!(is_open(&agent).await);
    assert_eq!(prepare(&agent, "").await.generation, 5);
    // Without a number the agent counts on.
    agent.post("/init", "").await;
    assert_eq!(prepare(&agent, "").await.generation, 6);
}

#[tokio::test]
async fn a_prepare_that_no_snapshot_follows_is_undone() {
    let agent = agent().await;
    prepare(&agent, r#"{"watchdogMs":300}"#).await;
    eventually("undone", async || is_open(&agent).await).await;
    // A watchdog bites only its own prepare.
    prepare(&agent, r#"{"watchdogMs":300}"#).await;
    agent.post("/snapshot/abort", "").await;
    prepare(&agent, r#"{"watchdogMs":600000}"#).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!is_open(&agent).await);
}

#[tokio::test]
async fn frozen_processes_thaw_on_abort_and_on_init_and_by_the_watchdog() {
    let durations = Durations { watchdog: Duration::from_millis(500), ..Durations::default() };
    let agent = agent_with(durations, true).await;
    let state = || {
        let files = [agent.cgroup_file("cgroup.freeze"), agent.pty_cgroup_file("cgroup.freeze")];
        files.map(|file| std::fs::read_to_string(file).unwrap())
    };
    for undo in ["/snapshot/abort", "/init", ""] {
        prepare(&agent, r#"{"freeze":true}"#).await;
        assert_eq!(state(), ["1", "1"]);
        if !undo.is_empty() {
            agent.post(undo, "").await;
        }
        eventually("thawed", async || state() == ["0", "0"]).await;
    }
}

#[tokio::test]
async fn a_freeze_that_does_not_come_about_is_undone_and_reported() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    let mut told = false;
    // A busy machine may not give the agent the time that was kept back for them.
    for _ in 0..5 {
        let report = prepare(&agent, r#"{"freeze":true,"budgetMs":2000}"#).await;
        assert_eq!(outcome(&report, "freeze"), Some(StepOutcome::Overran));
        assert_eq!(outcome(&report, "sync"), Some(StepOutcome::Skipped), "no budget is left");
        assert_eq!(std::fs::read_to_string(agent.cgroup_file("cgroup.freeze")).unwrap(), "0");
        agent.post("/snapshot/abort", "").await;
        told = report.mem_free > 0 && !report.kernel_release.is_empty();
        if told {
            break;
        }
    }
    assert!(told, "what the host must know about the kernel");
}

#[tokio::test]
async fn abort_stops_a_prepare_that_is_under_way() {
    let agent = agent_with(Durations::default(), true).await;
    std::fs::write(agent.cgroup_file("cgroup.events"), "frozen 0\n").unwrap();
    let preparing = agent.http("POST /snapshot/prepare", &[], br#"{"freeze":true}"#);
    let aborting = async {
        eventually("freezing", async || std::fs::read(agent.cgroup_file("cgroup.freeze")).unwrap() == b"1").await;
        agent.post("/snapshot/abort", "").await
    };
    let (prepared, aborted) = tokio::join!(preparing, aborting);
    assert_eq!((prepared.status, aborted.status), (409, 204));
    assert_eq!(std::fs::read(agent.cgroup_file("cgroup.freeze")).unwrap(), b"0");
    assert!(is_open(&agent).await);
}

#[tokio::test]
async fn the_cache_is_not_dropped_when_what_is_dirty_could_not_be_written() {
    let agent = agent_with(Durations::default(), true).await;
    // The imitated overlay disk.
    std::fs::remove_dir_all(&agent.home).unwrap();
    let report = prepare(&agent, r#"{"cache":"drop"}"#).await;
    assert_eq!(outcome(&report, "sync"), Some(StepOutcome::Failed));
    assert_eq!(outcome(&report, "cache"), Some(StepOutcome::Skipped));
}

#[tokio::test]
async fn a_body_that_is_no_request_prepares_nothing() {
    let agent = agent().await;
    assert_eq!(agent.post("/snapshot/prepare", r#"{"cache":"some"}"#).await.status, 400);
    assert!(is_open(&agent).await);
}

async fn idle_connection(agent: &TestAgent) -> TcpStream {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    stream
}

#[tokio::test]
async fn prepare_closes_idle_connections_but_not_the_callers() {
    let agent = agent().await;
    let mut idle = idle_connection(&agent).await;
    // Nothing yet, and not all of a second request.
    let mut silent = TcpStream::connect(agent.address).await.unwrap();
    let mut half = idle_connection(&agent).await;
    half.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut own = idle_connection(&agent).await;
    let mut answer = [0; 8192];
    let asked = format!("POST /snapshot/prepare HTTP/1.1\r\nhost: a\r\n{JSON}\r\ncontent-length: 0\r\n\r\n");
    own.write_all(asked.as_bytes()).await.unwrap();
    let read = own.read(&mut answer).await.unwrap();
    let told = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    let report: PrepareReport = serde_json::from_str(told.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(outcome(&report, "connections"), Some(StepOutcome::Ok), "none of them had to be cut off");
    for stream in [&mut idle, &mut silent, &mut half] {
        let closed =
            tokio::time::timeout(stretched(Duration::from_secs(10)), stream.read(&mut answer)).await.expect("closed");
        assert_eq!(closed.unwrap(), 0);
    }
    own.write_all(b"POST /snapshot/abort HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let read = own.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 204"), "the caller's own still serves");
}

#[tokio::test]
async fn a_new_life_cuts_off_who_came_between_prepare_and_init() {
    let agent = agent().await;
    prepare(&agent, "").await;
    let mut between = idle_connection(&agent).await;
    assert_eq!(agent.post("/init", r#"{"generation":1}"#).await.status, 204);
    let closed =
        tokio::time::timeout(stretched(Duration::from_secs(10)), between.read(&mut [0; 1])).await.expect("closed");
    assert!(matches!(closed, Ok(0) | Err(_)));
    let mut kept = idle_connection(&agent).await;
    assert_eq!(agent.post("/init", r#"{"generation":1}"#).await.status, 204);
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(kept.read(&mut [0; 1024]).await.unwrap() > 0, "that life had begun already");
}

#[tokio::test]
async fn a_stream_that_is_open_at_a_snapshot_ends_with_an_error_and_its_process_lives() {
    let agent = agent().await;
    let mut request = shell("read line; echo \"got $line\"");
    request.stdin = Some(true);
    request.tag = Some("t".into());
    let mut stream = agent.rpc.process.start(request).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    let report = prepare(&agent, "").await;
    assert_eq!(outcome(&report, "connections"), Some(StepOutcome::Overran), "it had the time left to finish");
    let ended = tokio::time::timeout(stretched(Duration::from_secs(10)), stream.message()).await.expect("at once");
    assert!(ended.is_err());
    assert_eq!(agent.post("/init", r#"{"generation":2}"#).await.status, 204);
    let attach = ConnectRequest { process: by_tag("t").into(), ..Default::default() };
    let live = live!(agent.rpc.process.connect(attach));
    let close = CloseStdinRequest { process: by_tag("t").into(), ..Default::default() };
    agent.rpc.process.close_stdin(close).await.unwrap();
    assert_eq!(live.end().await.stdout, "got \n");
}
