//! `/files`: whole files in and out.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::agent;

const OCTETS: &str = "content-type: application/octet-stream";

#[tokio::test]
async fn a_file_goes_in_and_comes_out() {
    let agent = agent().await;
    let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let put = agent.http("POST /files?path=dir/sub/a.bin", &[OCTETS], &body).await;
    let path = agent.home.join("dir/sub/a.bin");
    assert_eq!(put.status, 200);
    assert_eq!(put.json(), serde_json::json!([{"path": path.to_str(), "name": "a.bin", "type": "file"}]));
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), rustix::process::geteuid().as_raw());
    let got = agent.get("/files?path=~/dir/sub/a.bin").await;
    assert_eq!((got.status, got.body == body), (200, true));
    assert!(got.has("content-disposition: inline; filename=\"a.bin\""), "{}", got.head);
    assert!(got.has("vary: accept-encoding"), "{}", got.head);
}

#[tokio::test]
async fn a_shorter_upload_replaces_a_longer_one() {
    let agent = agent().await;
    agent.http("POST /files?path=a", &[OCTETS], b"longer").await;
    agent.http("POST /files?path=a", &[OCTETS], b"short").await;
    assert_eq!(agent.get("/files?path=a").await.body, b"short");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_no_new_file() {
    let agent = agent().await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(b"POST /files?path=gone HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\nonly this").await.unwrap();
    while !agent.home.join("gone").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while agent.home.join("gone").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn several_files_go_in_at_once_under_their_full_names() {
    let agent = agent().await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x/one\"\r\n\r\n1\r\n\
                --b\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\nignored\r\n\
                --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"two\"\r\n\r\n2\r\n--b--\r\n";
    let put = agent.http("POST /files", &["content-type: multipart/form-data; boundary=b"], body.as_bytes()).await;
    assert_eq!(put.status, 200, "{:?}", String::from_utf8_lossy(&put.body));
    assert_eq!(put.json().as_array().unwrap().len(), 2);
    assert_eq!(std::fs::read(agent.home.join("x/one")).unwrap(), b"1");
    assert_eq!(std::fs::read(agent.home.join("two")).unwrap(), b"2");
}

#[tokio::test]
async fn a_range_of_a_file_comes_out() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "0123456789").unwrap();
    let part = agent.http("GET /files?path=a", &["range: bytes=2-4"], b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"234".as_slice()));
    assert!(part.has("content-range: bytes 2-4/10"), "{}", part.head);
    let beyond = agent.http("GET /files?path=a", &["range: bytes=20-30"], b"").await;
    assert_eq!(beyond.status, 416);
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "x").unwrap();
    let first = agent.get("/files?path=a").await;
    let modified = first.head.lines().find(|line| line.to_ascii_lowercase().starts_with("last-modified:")).unwrap();
    let value = modified.split_once(':').unwrap().1;
    let again = agent.http("GET /files?path=a", &[&format!("if-modified-since:{value}")], b"").await;
    assert_eq!(again.status, 304);
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let agent = agent().await;
    rustix::fs::mkfifoat(rustix::fs::CWD, agent.home.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    for (path, status) in [("missing", 404), ("", 400), (".", 400), ("pipe", 400), ("/dev/zero", 400)] {
        let answer = agent.get(&format!("/files?path={path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.json()["code"], status, "{path}");
    }
    for path in ["pipe", ".", "/dev/null"] {
        let answer = agent.http(&format!("POST /files?path={path}"), &[OCTETS], b"x").await;
        assert!(matches!(answer.status, 400 | 500), "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn an_upload_says_what_it_lacks() {
    let agent = agent().await;
    assert_eq!(agent.http("POST /files", &[OCTETS], b"x").await.status, 400);
    assert_eq!(agent.http("POST /files?path=a", &["content-type: text/plain"], b"x").await.status, 400);
    assert_eq!(agent.http("POST /files?path=a", &["content-type: multipart/form-data"], b"x").await.status, 400);
    let stranger = agent.http("POST /files?path=a&username=nobody9", &[OCTETS], b"x").await;
    assert_eq!((stranger.status, stranger.json()["message"].as_str()), (401, Some("invalid username: 'nobody9'")));
    assert!(!agent.home.join("a").exists());
}
