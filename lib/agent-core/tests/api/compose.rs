//! `POST /files/compose`.

use serde_json::json;

use crate::support::{Answer, TestAgent, agent};

async fn compose(agent: &TestAgent, sources: &[&str], destination: &str) -> Answer {
    let body = json!({"source_paths": sources, "destination": destination}).to_string();
    agent.post("/files/compose", &body).await
}

fn names(agent: &TestAgent) -> Vec<String> {
    let entries = std::fs::read_dir(&agent.home).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn parts_become_one_file_in_their_order_and_are_gone() {
    let agent = agent().await;
    for (name, content) in [("a", "1"), ("b", ""), ("c", "23")] {
        std::fs::write(agent.home.join(name), content).unwrap();
    }
    let path = agent.home.join("new/whole");
    let answer = compose(&agent, &["c", "~/b", "a"], "new/whole").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"path": path, "name": "whole", "type": "file"})));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "231");
    assert_eq!(names(&agent), ["new"]);
}

#[tokio::test]
async fn what_cannot_be_composed_changes_nothing() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "1").unwrap();
    std::fs::create_dir(agent.home.join("d")).unwrap();
    std::fs::hard_link(agent.home.join("a"), agent.home.join("same")).unwrap();
    for (sources, destination, status) in [
        (&["a", "missing"][..], "whole", 404),
        (&["a", "d"], "whole", 400),
        (&[], "whole", 400),
        (&["a"], "d", 400),
        (&["a"], "a", 400),
        (&["a"], "same", 400),
    ] {
        let answer = compose(&agent, sources, destination).await;
        assert_eq!(answer.status, status, "{sources:?} to {destination}");
        assert_eq!(
            (names(&agent).join(" ").as_str(), std::fs::read(agent.home.join("a")).unwrap()),
            ("a d same", b"1".to_vec())
        );
    }
    assert_eq!(agent.post("/files/compose", "{}").await.status, 400);
    let stranger = json!({"source_paths": ["a"], "destination": "b", "username": "nobody9"}).to_string();
    assert_eq!(agent.post("/files/compose", &stranger).await.status, 401);
    agent.post("/init", r#"{"accessToken":"tok"}"#).await;
    assert_eq!(compose(&agent, &["a"], "b").await.status, 401, "no signature opens this");
    assert_eq!(names(&agent), ["a", "d", "same"]);
}
