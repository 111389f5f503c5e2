use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Time stands still but for deadlines, so that these take no time however long they are.
const LIMITS: fn() -> Limits = Limits::default;

/// An agent that says `answer` to every request; one that says nothing keeps the connection open.
async fn answering(answer: Option<String>) -> Agent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let Some(answer) = answer else { return pending::<()>().await };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Agent::new(addr, None)
}

fn http(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

async fn prepare(agent: &Agent) -> String {
    agent.prepare(CachePolicy::Keep, &LIMITS()).await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_in_a_prepare_costs_its_budget_and_the_grace() {
    let agent = answering(None).await;
    let begin = Instant::now();
    let said = prepare(&agent).await;
    assert_eq!(said, "the agent in the guest failed at prepare: no answer within 25 s");
    assert_eq!(begin.elapsed().as_secs(), (LIMITS().prepare + LIMITS().agent_grace).as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_comes_up_is_given_up_on() {
    let agent = answering(None).await;
    let begin = Instant::now();
    let error = agent.wait_ready(Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, Error::Agent { step: "start", .. }), "{error}");
    assert!((60..70).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_when_it_is_told_who_it_is_or_that_no_snapshot_follows_costs_a_deadline() {
    let agent = answering(None).await;
    let (token, env) = (Secret::random().unwrap(), std::collections::BTreeMap::new());
    let life = NewLife { token: &token, env: &env, hostname: "h", generation: 1, now: jiff::Timestamp::UNIX_EPOCH };
    assert!(matches!(agent.init(&life, Duration::from_secs(9)).await, Err(Error::Agent { step: "init", .. })));
    assert!(matches!(agent.abort(&LIMITS()).await, Err(Error::Agent { step: "abort", .. })));
}

#[tokio::test]
async fn a_refusal_is_told_with_the_agents_reason_and_without_what_could_confuse_a_terminal() {
    let agent = answering(http("503 Service Unavailable", "busy\u{1b}[2J\r\nnow")).await;
    let said = "the agent in the guest failed at prepare: it answered 503 Service Unavailable: busy[2Jnow";
    assert_eq!(prepare(&agent).await, said);
}

#[tokio::test]
async fn an_agent_that_is_prepared_already_is_told_from_one_that_refuses() {
    let agent = answering(http("409 Conflict", "a snapshot is already being prepared")).await;
    let Ok(Prepared::Before(refusal)) = agent.prepare(CachePolicy::Keep, &LIMITS()).await else { panic!() };
    assert!(refusal.to_string().contains("409 Conflict: a snapshot is already being prepared"), "{refusal}");
}

#[tokio::test]
async fn a_report_that_cannot_be_read_or_has_no_end_is_an_error() {
    let agent = answering(http("200 OK", "{\"steps\": 7}")).await;
    assert!(prepare(&agent).await.contains("its report cannot be read"));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(MAX_ANSWER + 1));
    let said = prepare(&answering(Some(endless)).await).await;
    assert!(said.contains("length limit exceeded"), "{said}");
}

#[tokio::test]
async fn where_nobody_listens_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let said = prepare(&Agent::new(addr, None)).await;
    assert!(said.contains(&format!("cannot connect to {addr}")), "{said}");
}
