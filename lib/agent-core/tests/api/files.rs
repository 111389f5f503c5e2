//! `/files`: whole files in and out.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use dormouse_agent_proto::filesystem::{ListDirRequest, StatRequest};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};

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
        assert!(answer.status == 400, "{path}: {}", answer.status);
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

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzEncoder::new(content, Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// The content of a body that was sent in chunks.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
}

#[tokio::test]
async fn a_client_that_takes_gzip_gets_gzip_but_not_of_a_range() {
    let agent = agent().await;
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(agent.home.join("a"), &content).unwrap();
    let got = agent.http("GET /files?path=a", &["accept-encoding: gzip, deflate"], b"").await;
    assert!(got.status == 200 && got.has("content-encoding: gzip") && got.has("vary: accept-encoding"), "{}", got.head);
    let mut out = Vec::new();
    GzDecoder::new(unchunked(&got.body).as_slice()).read_to_end(&mut out).unwrap();
    assert!(out == content);
    let part = agent.http("GET /files?path=a", &["accept-encoding: gzip", "range: bytes=4-7"], b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, 1_u32.to_le_bytes().as_slice()));
    assert!(!part.has("content-encoding"), "{}", part.head);
    let neither = agent.http("GET /files?path=a", &["accept-encoding: br, identity;q=0"], b"").await;
    assert_eq!((neither.status, neither.json()["code"].as_u64()), (406, Some(406)));
    assert_eq!(agent.http("GET /files?path=a", &["accept-encoding: br"], b"").await.body, content);
}

#[tokio::test]
async fn a_tag_names_a_version_of_a_file() {
    let agent = agent().await;
    std::fs::write(agent.home.join("a"), "0123").unwrap();
    for coding in ["identity", "gzip"] {
        let accept = format!("accept-encoding: {coding}");
        let first = agent.http("GET /files?path=a", &[&accept], b"").await;
        let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let again = agent.http("GET /files?path=a", &[&accept, &format!("if-none-match: {tag}")], b"").await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{coding}");
        let other = agent.http("GET /files?path=a", &[&accept, "if-none-match: \"x\""], b"").await;
        assert_eq!(other.status, 200, "{coding}");
    }
    let joined = agent.http("GET /files?path=a", &["range: bytes=2-3", "if-range: \"x\""], b"").await;
    assert_eq!((joined.status, joined.body.as_slice()), (200, b"0123".as_slice()), "never half of another version");
}

#[tokio::test]
async fn a_compressed_upload_is_written_as_it_was_before() {
    let agent = agent().await;
    let encoding = "content-encoding: gzip";
    let content = vec![b'a'; 3_000_000];
    let put = agent.http("POST /files?path=a", &[OCTETS, encoding], &gzip(&content)).await;
    assert_eq!(put.status, 200);
    assert!(std::fs::read(agent.home.join("a")).unwrap() == content);
    let form = b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\nx\r\n--b--\r\n";
    let put =
        agent.http("POST /files", &["content-type: multipart/form-data; boundary=b", encoding], &gzip(form)).await;
    assert_eq!((put.status, std::fs::read(agent.home.join("b")).unwrap()), (200, b"x".to_vec()));
    let half = &gzip(&content)[..1000];
    for broken in [half, b"not gzip", b"\x1f\x8b\x08"] {
        let refused = agent.http("POST /files?path=c", &[OCTETS, encoding], broken).await;
        assert_eq!((refused.status, agent.home.join("c").exists()), (400, false));
    }
    assert_eq!(agent.http("POST /files?path=c", &[OCTETS, "content-encoding: br"], b"x").await.status, 415);
}

#[tokio::test]
async fn metadata_is_kept_with_the_file_and_replaced_whole() {
    let agent = agent().await;
    let put = agent.http("POST /files?path=a", &[OCTETS, "X-Metadata-Owner: me", "x-metadata-b: 2"], b"x").await;
    assert_eq!(put.json()[0]["metadata"], serde_json::json!({"owner": "me", "b": "2"}));
    let metadata = async || {
        let request = StatRequest { path: "a".into(), ..Default::default() };
        let entry = agent.rpc.filesystem.stat(request).await.unwrap().into_owned().entry.into_option().unwrap();
        let mut pairs: Vec<(String, String)> = entry.metadata.into_iter().collect();
        pairs.sort();
        pairs
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(metadata().await, [pair("b", "2"), pair("owner", "me")]);
    agent.http("POST /files?path=a", &[OCTETS, "x-metadata-owner: you"], b"x").await;
    assert_eq!(metadata().await, [pair("owner", "you")]);
    let attribute = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(agent.home.join("a"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    attribute("user.e2b.set", b"by a program");
    attribute("user.e2b.odd", b"\xff");
    attribute("user.other", b"kept");
    assert_eq!(metadata().await, [pair("owner", "you"), pair("set", "by a program")]);
    let list = ListDirRequest { path: "~".into(), ..Default::default() };
    let entries = agent.rpc.filesystem.list_dir(list).await.unwrap().into_owned().entries;
    assert_eq!(entries[0].metadata.len(), 2);
    assert!(agent.http("POST /files?path=a", &[OCTETS], b"x").await.json()[0].get("metadata").is_none());
    assert_eq!(metadata().await, []);
    let mut value = [0; 9];
    assert_eq!(rustix::fs::getxattr(agent.home.join("a"), "user.other", &mut value[..]).unwrap(), 4);
    let refused = agent.http("POST /files?path=new", &[OCTETS, "x-metadata-a: \u{fc}"], b"x").await;
    assert_eq!((refused.status, agent.home.join("new").exists()), (400, false));
}

#[tokio::test]
async fn two_parts_for_one_path_are_refused() {
    let agent = agent().await;
    let part = |content: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{content}\r\n")
    };
    let body = format!("{}{}--b--\r\n", part("1"), part("2"));
    let put = agent.http("POST /files", &["content-type: multipart/form-data; boundary=b"], body.as_bytes()).await;
    assert_eq!((put.status, std::fs::read(agent.home.join("a")).unwrap()), (400, b"1".to_vec()));
}

#[tokio::test]
async fn no_path_breaks_the_agent_or_leaves_something_behind() {
    let agent = agent().await;
    std::os::unix::fs::symlink("loop", agent.home.join("loop")).unwrap();
    std::fs::write(agent.home.join("file"), "x").unwrap();
    let long = "n".repeat(300);
    let longest = "n/".repeat(3000);
    for path in ["a%00b", &long, &longest, "loop", "loop/x", "file/x", "/", "~", "/proc/self", "/dev/zero"] {
        let put = agent.http(&format!("POST /files?path={path}"), &[OCTETS], b"x").await;
        assert_eq!(put.status, 400, "POST {path}: {}", String::from_utf8_lossy(&put.body));
        let got = agent.get(&format!("/files?path={path}")).await;
        assert!(matches!(got.status, 400 | 404), "GET {path}: {}", got.status);
    }
    assert_eq!(std::fs::read(agent.home.join("file")).unwrap(), b"x");
}
