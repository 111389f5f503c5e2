//! The access token, at every door.

use base64::Engine;
use connectrpc::ErrorCode;
use dormouse_agent_proto::client::AgentRpc;
use dormouse_agent_proto::filesystem::StatRequest;
use dormouse_agent_proto::process::ListRequest;
use sha2::{Digest, Sha256};

use crate::support::{TestAgent, agent};

const TOKEN: &str = "x-access-token: tok";
const REFUSED: &str = "unauthorized access, please provide a valid access token or method signing if supported";

async fn secured() -> TestAgent {
    let agent = agent().await;
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    agent
}

fn signature(path: &str, operation: &str, expiration: Option<i64>) -> String {
    let suffix = expiration.map(|e| format!(":{e}")).unwrap_or_default();
    let hash = Sha256::digest(format!("{path}:{operation}::tok{suffix}"));
    let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(hash);
    format!("v1_{}", text.replace('+', "%2B").replace('/', "%2F"))
}

#[tokio::test]
async fn everything_is_open_before_there_is_a_token() {
    let agent = agent().await;
    assert_eq!(agent.get("/health").await.status, 204);
    assert!(agent.rpc.process.list(ListRequest::default()).await.is_ok());
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204);
}

#[tokio::test]
async fn with_a_token_only_health_is_open_to_all() {
    let agent = secured().await;
    assert_eq!(agent.get("/health").await.status, 204);
    for path in
        ["/snapshot/abort", "/snapshot/prepare", "/process.Process/List", "/filesystem.Filesystem/Stat", "/nowhere"]
    {
        let refused = agent.post(path, "{}").await;
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.json(), serde_json::json!({"code": 401, "message": REFUSED}), "{path}");
        let wrong = agent.http(&format!("POST {path}"), &["x-access-token: tok2"], b"{}").await;
        assert_eq!(wrong.status, 401, "{path}");
        let right = agent.http(&format!("POST {path}"), &[TOKEN, "content-type: application/json"], b"{}").await;
        assert_ne!(right.status, 401, "{path}");
        agent.http("POST /snapshot/abort", &[TOKEN], b"").await;
    }
    assert_eq!(agent.post("/health", "").await.status, 401, "only GET is exempt");
}

#[tokio::test]
async fn the_client_sends_its_token_with_each_call() {
    let agent = secured().await;
    let refused = agent.rpc.filesystem.stat(StatRequest::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    let base = format!("http://{}", agent.address).parse().unwrap();
    let client = AgentRpc::new(base, [("x-access-token", "tok")]).unwrap();
    assert!(client.filesystem.stat(StatRequest::default()).await.is_ok());
}

#[tokio::test]
async fn a_later_init_must_know_the_token() {
    let agent = secured().await;
    assert_eq!(agent.post("/init", "{}").await.status, 401);
    assert_eq!(agent.post("/init", r#"{"accessToken":"mine"}"#).await.status, 401);
    assert_eq!(agent.http("POST /init", &["x-access-token: no"], br#"{"accessToken":"mine"}"#).await.status, 401);
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 401, "a refused init changes nothing");
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    assert_eq!(agent.http("POST /init", &[TOKEN], br#"{"accessToken":"next"}"#).await.status, 204);
    assert_eq!(agent.http("POST /snapshot/abort", &[TOKEN], b"").await.status, 401);
    assert_eq!(agent.http("POST /snapshot/abort", &["x-access-token: next"], b"").await.status, 204);
}

#[tokio::test]
async fn a_file_opens_to_the_token_or_to_a_signature_for_it() {
    let agent = secured().await;
    std::fs::write(agent.home.join("a"), "x").unwrap();
    assert_eq!(agent.http("GET /files?path=a", &[TOKEN], b"").await.body, b"x");
    let (read, write) = (signature("a", "read", None), signature("a", "write", None));
    assert_eq!(agent.get(&format!("/files?path=a&signature={read}")).await.body, b"x");
    let message = |answer: crate::support::Answer| {
        assert_eq!(answer.status, 401);
        answer.json()["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message(agent.get("/files?path=a").await), "missing signature query parameter");
    assert_eq!(message(agent.get(&format!("/files?path=a&signature={write}")).await), "invalid signature");
    assert_eq!(message(agent.get(&format!("/files?path=b&signature={read}")).await), "invalid signature");
    let wrong = agent.http(&format!("GET /files?path=a&signature={read}"), &["x-access-token: no"], b"").await;
    assert_eq!(message(wrong), "access token present in header but does not match");
}

#[tokio::test]
async fn a_signature_to_write_allows_writing_until_it_expires() {
    let agent = secured().await;
    let octets = ["content-type: application/octet-stream"];
    let (past, future) = (1_000_000_000, 9_000_000_000);
    let expired =
        format!("POST /files?path=a&signature={}&signature_expiration={past}", signature("a", "write", Some(past)));
    let answer = agent.http(&expired, &octets, b"x").await;
    assert_eq!(
        (answer.status, answer.json()),
        (401, serde_json::json!({"code":401,"message":"signature is already expired"}))
    );
    let read = format!("POST /files?path=a&signature={}", signature("a", "read", None));
    assert_eq!(agent.http(&read, &octets, b"x").await.status, 401);
    assert!(!agent.home.join("a").exists());
    let valid =
        format!("POST /files?path=a&signature={}&signature_expiration={future}", signature("a", "write", Some(future)));
    assert_eq!(agent.http(&valid, &octets, b"x").await.status, 200);
}

#[tokio::test]
async fn an_init_that_makes_no_sense_is_refused_whole() {
    let agent = agent().await;
    for body in [
        "not json",
        r#"{"accessToken":"t","timestamp":"yesterday"}"#,
        r#"{"accessToken":"t","entropy":"%%%"}"#,
        r#"{"accessToken":"t","hostname":"a b"}"#,
    ] {
        assert_eq!(agent.post("/init", body).await.status, 400, "{body}");
    }
    assert_eq!(agent.post("/snapshot/abort", "").await.status, 204, "no token was set");
    let fine = agent.post("/init", r#"{"timestamp":"2026-11-23T13:00:00.123+01:00"}"#).await;
    assert!(fine.status == 204 && fine.has("x-envd-version: 0.6.13"), "{}", fine.head);
}

#[tokio::test]
async fn a_stale_init_changes_nothing() {
    let agent = agent().await;
    agent.post("/init", r#"{"timestamp":"2026-11-23T13:00:00Z","envVars":{"A":"new"}}"#).await;
    let stale = agent.post("/init", r#"{"timestamp":"2026-11-23T12:00:00Z","envVars":{"A":"old"}}"#).await;
    assert_eq!(stale.status, 204);
    assert_eq!(agent.sh("echo $A").await.stdout, "new\n");
}
