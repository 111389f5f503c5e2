//! What `/init` sets for requests that name nothing, and how it is told.

use connectrpc::ErrorCode;
use dormouse_agent_proto::filesystem::StatRequest;

use crate::support::{TestAgent, agent, shell};

async fn home_of_default(agent: &TestAgent) -> Result<String, ErrorCode> {
    let request = StatRequest { path: "~".into(), ..Default::default() };
    match agent.rpc.filesystem.stat(request).await {
        Ok(answer) => Ok(answer.into_owned().entry.into_option().unwrap().path),
        Err(error) => Err(error.code),
    }
}

#[tokio::test]
async fn the_environment_of_the_sandbox_is_told_as_a_set() {
    let agent = agent().await;
    assert_eq!(agent.get("/envs").await.json(), serde_json::json!({}));
    agent.post("/init", r#"{"envVars":{"A":"1","B":"two words"}}"#).await;
    let told = agent.get("/envs").await;
    assert_eq!((told.status, told.json()), (200, serde_json::json!({"A": "1", "B": "two words"})));
    assert!(told.has("cache-control: no-store"), "{}", told.head);
    agent.post("/init", r#"{"envVars":{"C":"3"},"accessToken":"tok"}"#).await;
    assert_eq!(agent.get("/envs").await.status, 401);
    assert_eq!(agent.http("GET /envs", &["x-access-token: tok"], b"").await.json(), serde_json::json!({"C": "3"}));
}

#[tokio::test]
async fn the_default_user_is_whom_init_names() {
    let agent = agent().await;
    assert_eq!(home_of_default(&agent).await.unwrap(), agent.home.to_str().unwrap());
    agent.post("/init", r#"{"defaultUser":"guest"}"#).await;
    assert_eq!(home_of_default(&agent).await.unwrap(), "/usr");
    assert_eq!(agent.get("/files?path=bin").await.status, 400, "a directory of the home");
    agent.post("/init", r#"{"defaultUser":""}"#).await;
    assert_eq!(home_of_default(&agent).await.unwrap(), "/usr", "empty changes nothing");
    agent.post("/init", r#"{"defaultUser":"nobody9"}"#).await;
    assert_eq!(home_of_default(&agent).await.unwrap_err(), ErrorCode::Unauthenticated);
    assert_eq!(agent.get("/files?path=x").await.status, 401);
    assert_eq!(agent.get("/files?path=x&username=tester").await.status, 404, "a named user counts");
}

#[tokio::test]
async fn an_empty_directory_is_the_default_one_and_an_empty_default_is_the_home() {
    let agent = agent().await;
    let mut request = shell("pwd");
    request.process.get_or_insert_default().cwd = Some(String::new());
    agent.post("/init", r#"{"defaultWorkdir":"/usr"}"#).await;
    assert_eq!(agent.run(request.clone()).await.unwrap().stdout, "/usr\n");
    agent.post("/init", r#"{"defaultWorkdir":"~"}"#).await;
    assert_eq!(agent.run(request.clone()).await.unwrap().stdout.trim(), agent.home.to_str().unwrap());
    agent.post("/init", r#"{"defaultWorkdir":"/usr"}"#).await;
    agent.post("/init", r#"{"defaultWorkdir":""}"#).await;
    assert_eq!(agent.run(request).await.unwrap().stdout.trim(), agent.home.to_str().unwrap());
}
