//! `GET /files` with ranges and conditions, as a server of static files answers them.

use crate::support::agent;

#[tokio::test]
async fn each_way_to_ask_for_a_range_and_the_whole_file_where_it_makes_no_sense() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "0123456789").unwrap();
    std::fs::write(agent.home.join("empty"), "").unwrap();
    for (path, range, status, body) in [
        ("a", "bytes=0-0", 206, "0"),
        ("a", "bytes=7-", 206, "789"),
        ("a", "bytes=-3", 206, "789"),
        ("a", "bytes=5-99", 206, "56789"),
        ("a", "bytes=10-", 416, ""),
        ("a", "bytes=1-2,4-5", 200, "0123456789"),
        ("a", "bytes=5-2", 200, "0123456789"),
        ("a", "lines=1-2", 200, "0123456789"),
        ("a", "nonsense", 200, "0123456789"),
        ("empty", "bytes=0-4", 200, ""),
    ] {
        let answer = agent.http(&format!("GET /files?path={path}"), &[&format!("range: {range}")], b"").await;
        assert_eq!(
            (answer.status, String::from_utf8(answer.body).unwrap()),
            (status, body.into()),
            "{range} of {path}"
        );
    }
}

#[tokio::test]
async fn conditions_are_kept() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "0123").unwrap();
    let first = agent.get("/files?path=a").await;
    let header = |name: &str| {
        let mut lines = first.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).unwrap().1.to_owned()
    };
    let (tag, modified) = (header("etag"), header("last-modified"));
    let past = "Mon, 01 Jan 2001 00:00:00 GMT";
    for (condition, status) in [
        (format!("if-match: {tag}"), 200),
        ("if-match: *".into(), 200),
        ("if-match: \"other\"".into(), 412),
        (format!("if-none-match: \"other\", W/{tag}"), 304),
        ("if-none-match: *".into(), 304),
        ("if-none-match: \"other\"".into(), 200),
        (format!("if-unmodified-since: {modified}"), 200),
        (format!("if-unmodified-since: {past}"), 412),
        (format!("if-modified-since: {modified}"), 304),
        (format!("if-modified-since: {past}"), 200),
        ("if-modified-since: yesterday".into(), 200),
    ] {
        let answer = agent.http("GET /files?path=a", &[&condition], b"").await;
        assert_eq!(answer.status, status, "{condition}");
        assert_eq!(answer.body.len(), if status == 200 { 4 } else { 0 }, "{condition}");
    }
}

#[tokio::test]
async fn the_head_alone_is_told_too() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "0123").unwrap();
    let head = agent.http("HEAD /files?path=a", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.has("content-length: 4") && head.has("accept-ranges: bytes"), "{}", head.head);
    assert_eq!(agent.http("HEAD /files?path=missing", &[], b"").await.status, 404);
}
