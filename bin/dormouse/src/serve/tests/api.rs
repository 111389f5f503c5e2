//! Routes, statuses and bodies.

use serde_json::json;

use super::fake_host::{FULL, FakeHost, PAUSED, RUNNING, SNAPSHOT, TOKEN};
use super::server::{Server, start};

const UNKNOWN: &str = "i99999999999999999999";

async fn server() -> Server {
    start(FakeHost::default()).await
}

#[tokio::test]
async fn nothing_but_health_is_answered_without_the_key() {
    let server = server().await;
    assert_eq!(server.ask_with("GET", "/health", "", "").await.status, 204);
    for path in ["/v2/sandboxes", "/templates", "/dormouse/v1/sandboxes", "/nowhere", "/health/"] {
        for headers in ["", "X-API-Key: e2b_0123\r\n", "Authorization: Bearer x\r\n"] {
            let answer = server.ask_with("GET", path, headers, "").await;
            assert_eq!((answer.status, answer.json()["code"].as_u64()), (401, Some(401)), "{path} {headers}");
        }
    }
}

#[tokio::test]
async fn create_answers_201_with_what_sdks_require() {
    let server = server().await;
    for path in ["/sandboxes", "/v2/sandboxes"] {
        let answer = server.ask("POST", path, r#"{"templateID":"base:default","fromTheFuture":1}"#).await;
        assert_eq!(answer.status, 201, "{path}");
        let wanted = json!({"templateID": "base", "sandboxID": RUNNING, "clientID": "dormouse",
            "envdVersion": "0.6.13", "envdAccessToken": TOKEN});
        assert_eq!(answer.json(), wanted);
    }
}

#[tokio::test]
async fn what_a_creator_relies_on_but_is_missing_is_refused() {
    let server = server().await;
    for more in [
        r#""volumeMounts":[{"name":"v","path":"/v"}]"#,
        r#""autoResume":{"enabled":true}"#,
        r#""autoPauseMemory":false"#,
        r#""timeout":99999999"#,
    ] {
        let answer = server.ask("POST", "/v2/sandboxes", &format!(r#"{{"templateID":"base",{more}}}"#)).await;
        assert_eq!(answer.status, 400, "{more}");
    }
}

#[tokio::test]
async fn every_failure_of_the_host_has_its_status_and_a_json_body() {
    let server = server().await;
    for (method, path, body, status) in [
        ("GET", format!("/sandboxes/{UNKNOWN}"), "", 404),
        ("GET", "/sandboxes/..".to_owned(), "", 404),
        ("DELETE", format!("/sandboxes/{UNKNOWN}"), "", 404),
        ("POST", "/v2/sandboxes".to_owned(), r#"{"templateID":"none"}"#, 404),
        ("POST", "/v2/sandboxes".to_owned(), r#"{"timeout":5}"#, 400),
        ("POST", "/v2/sandboxes".to_owned(), "not json", 400),
        ("POST", format!("/sandboxes/{PAUSED}/pause"), "{}", 409),
        ("POST", format!("/sandboxes/{FULL}/pause"), "{}", 507),
        ("POST", format!("/sandboxes/{RUNNING}/pause"), r#"{"memory":false}"#, 400),
        ("POST", format!("/sandboxes/{RUNNING}/resume"), "", 409),
        ("POST", format!("/sandboxes/{PAUSED}/refreshes"), "", 409),
        ("POST", format!("/sandboxes/{RUNNING}/refreshes"), r#"{"duration":3601}"#, 400),
        ("POST", format!("/sandboxes/{RUNNING}/fork"), r#"{"count":101}"#, 400),
        ("POST", format!("/sandboxes/{RUNNING}/connect"), "{}", 400),
        ("POST", format!("/sandboxes/{PAUSED}/snapshots"), "", 409),
        ("POST", format!("/sandboxes/{UNKNOWN}/snapshots"), "", 404),
        ("POST", format!("/sandboxes/{RUNNING}/snapshots"), r#"{"memory":false}"#, 400),
        ("POST", format!("/sandboxes/{RUNNING}/snapshots"), r#"{"name":"No Name"}"#, 400),
        ("POST", format!("/sandboxes/{RUNNING}/snapshots"), r#"{"name":"base"}"#, 409),
        ("DELETE", "/templates/unknown".to_owned(), "", 404),
        ("DELETE", "/templates/base".to_owned(), "", 409),
        ("DELETE", "/templates/team%2Fbase".to_owned(), "", 404),
        ("GET", format!("/dormouse/v1/sandboxes/{RUNNING}/snapshot"), "", 404),
        ("GET", "/dormouse/v1/snapshots/s00000000000000000000/map".to_owned(), "", 404),
        ("GET", "/v2/sandboxes?state=asleep".to_owned(), "", 400),
        ("GET", "/nowhere".to_owned(), "", 404),
        ("PATCH", "/templates".to_owned(), "", 405),
    ] {
        let answer = server.ask(method, &path, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}");
        let json = answer.json();
        assert_eq!(json["code"], status, "{method} {path}");
        assert!(!json["message"].as_str().unwrap().is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_host_that_shuts_down_is_a_busy_service() {
    let server = start(FakeHost { closing: true, ..FakeHost::default() }).await;
    assert_eq!(server.ask("POST", "/v2/sandboxes", r#"{"templateID":"base"}"#).await.status, 503);
}

#[tokio::test]
async fn what_succeeds_without_an_answer_is_204() {
    let server = server().await;
    for (method, path, body) in [
        ("POST", format!("/sandboxes/{RUNNING}/pause"), ""),
        ("POST", format!("/sandboxes/{RUNNING}/pause"), r#"{"cache":"drop","measure":true}"#),
        ("POST", format!("/sandboxes/{RUNNING}/timeout"), r#"{"timeout":0}"#),
        ("POST", format!("/sandboxes/{RUNNING}/refreshes"), ""),
        ("DELETE", format!("/sandboxes/{RUNNING}"), ""),
    ] {
        let answer = server.ask(method, &path, body).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{method} {path}");
    }
}

#[tokio::test]
async fn connect_tells_a_resume_from_a_sandbox_that_ran() {
    let server = server().await;
    for (id, status) in [(RUNNING, 200), (PAUSED, 201)] {
        assert_eq!(server.ask("POST", &format!("/v2/sandboxes/{id}/connect"), "{}").await.status, status);
        let old = server.ask("POST", &format!("/sandboxes/{id}/connect"), r#"{"timeout":60}"#).await;
        assert_eq!(old.status, status);
    }
}

#[tokio::test]
async fn lists_filter_by_state_and_metadata_and_show_no_token() {
    let server = server().await;
    let ids = async |query: &str| {
        let answer = server.ask("GET", query, "").await;
        assert!(answer.head.contains("x-total-running: 1"), "{}", answer.head);
        assert!(!answer.head.contains("x-next-token") && !String::from_utf8_lossy(&answer.body).contains(TOKEN));
        let list = answer.json();
        list.as_array().unwrap().iter().map(|s| s["sandboxID"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/v2/sandboxes").await.len(), 3);
    assert_eq!(ids("/v2/sandboxes?state=paused&limit=5").await, [PAUSED]);
    assert_eq!(ids(&format!("/v2/sandboxes?metadata=of%3D{PAUSED}")).await, [PAUSED]);
    assert_eq!(ids("/v2/sandboxes?template=other").await.len(), 0);
    assert!(!ids("/sandboxes").await.contains(&PAUSED.to_owned()));
}

#[tokio::test]
async fn each_fork_has_its_own_outcome() {
    let server = server().await;
    let answer = server.ask("POST", &format!("/sandboxes/{PAUSED}/fork"), r#"{"count":2}"#).await;
    assert_eq!(answer.status, 201);
    let list = answer.json();
    assert_eq!(list[0]["sandbox"]["sandboxID"], PAUSED);
    assert_eq!(list[1]["error"], json!({"code": 500, "message": "the VMM failed: no luck"}));
}

#[tokio::test]
async fn a_console_is_bytes_that_no_browser_interprets() {
    let server = server().await;
    let answer = server.ask("GET", &format!("/dormouse/v1/sandboxes/{RUNNING}/console"), "").await;
    assert_eq!(answer.body, b"boot\x1b[0m");
    assert!(answer.head.contains("application/octet-stream") && answer.head.contains("nosniff"));
}

#[tokio::test]
async fn snapshots_are_made_listed_and_removed_in_the_shape_that_sdks_know() {
    let server = server().await;
    for (body, names) in [("", json!([])), (r#"{"name":"ready:default"}"#, json!(["ready"]))] {
        let answer = server.ask("POST", &format!("/sandboxes/{RUNNING}/snapshots"), body).await;
        assert_eq!((answer.status, answer.json()), (201, json!({"snapshotID": SNAPSHOT, "names": names})));
    }
    let ready = json!({"snapshotID": SNAPSHOT, "names": ["ready"]});
    let nameless = json!({"snapshotID": SNAPSHOT, "names": []});
    for (query, found) in [
        ("", json!([ready, nameless])),
        ("?limit=1", json!([ready, nameless])),
        (&format!("?sandboxID={PAUSED}"), json!([nameless])),
        ("?name=ready", json!([ready])),
        ("?name=other", json!([])),
    ] {
        let answer = server.ask("GET", &format!("/snapshots{query}"), "").await;
        assert_eq!((answer.status, answer.json()), (200, found), "{query}");
    }
    let own = server.ask("GET", "/dormouse/v1/snapshots", "").await.json();
    assert_eq!((&own[0]["sandbox"], &own[0]["onDisk"]), (&json!(RUNNING), &json!(3 << 20)));
    for gone in [SNAPSHOT, "ready%3Adefault"] {
        assert_eq!(server.ask("DELETE", &format!("/templates/{gone}"), "").await.status, 204, "{gone}");
    }
}
