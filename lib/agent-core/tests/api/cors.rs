//! Browsers: what pages of other origins may ask and read.

use crate::support::{Answer, TestAgent, agent};

async fn secured() -> TestAgent {
    let agent = agent().await;
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    agent
}

fn value<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn a_browser_may_ask_for_everything_without_a_token() {
    let agent = secured().await;
    let asked = "authorization,connect-protocol-version,content-type,x-access-token";
    for path in
        ["/process.Process/Start", "/filesystem.Filesystem/Stat", "/files?path=a", "/health", "/envs", "/nowhere"]
    {
        let headers = [
            "origin: https://page.test",
            "access-control-request-method: POST",
            &format!("access-control-request-headers: {asked}"),
        ];
        let answer = agent.http(&format!("OPTIONS {path}"), &headers, b"").await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.head);
        assert_eq!(value(&answer, "access-control-allow-origin"), "*", "{path}");
        assert_eq!(value(&answer, "access-control-allow-headers"), asked, "{path}");
        assert!(value(&answer, "access-control-allow-methods").contains("POST"), "{path}");
        assert!(value(&answer, "access-control-max-age").parse::<u32>().unwrap() > 0, "{path}");
    }
}

#[tokio::test]
async fn who_is_no_page_is_told_nothing_of_origins() {
    let agent = secured().await;
    let answer = agent.get("/health").await;
    assert!(!answer.has("access-control"), "{}", answer.head);
    assert_eq!(agent.http("OPTIONS /process.Process/List", &[], b"").await.status, 401);
    assert_eq!(agent.http("OPTIONS /process.Process/List", &["origin: https://page.test"], b"").await.status, 401);
}

#[tokio::test]
async fn a_page_may_read_answers_and_refusals_with_what_connect_says_in_headers() {
    let agent = secured().await;
    std::fs::write(agent.home.join("a"), "x").unwrap();
    let page = "origin: https://page.test";
    let token = "x-access-token: tok";
    for (request, headers, status) in [
        ("GET /health", vec![page], 204),
        ("GET /files?path=a", vec![page, token], 200),
        ("GET /files?path=missing", vec![page, token], 404),
        ("GET /envs", vec![page], 401),
        ("POST /process.Process/List", vec![page, token, "content-type: application/json"], 200),
    ] {
        let answer = agent.http(request, &headers, b"{}").await;
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(value(&answer, "access-control-allow-origin"), "*", "{request}");
        let exposed = value(&answer, "access-control-expose-headers");
        for header in ["connect-content-encoding", "grpc-status", "content-range", "content-disposition"] {
            assert!(exposed.split(',').any(|one| one.trim() == header), "{header} of {request}: {exposed}");
        }
    }
}
