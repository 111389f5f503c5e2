//! A big file through `/files`.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use crate::running::{RunningAgent, body, whole_body};

const SIZE: u64 = 4 << 30;
/// Most memory that the agent may ever have had.
const MOST: u64 = 16 << 20;
const PIECE: usize = 1 << 20;
const PIECES: u64 = SIZE / PIECE as u64;

fn files(method: &str, path: &Path) -> String {
    format!("{method} /files?path={}", path.display())
}

/// A file of pieces, each of which tells its place.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Self {
        Self((0..PIECE).map(|n| (n * n / 251) as u8).collect())
    }

    fn piece(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        &self.0
    }
}

/// In a form, as the SDKs send it.
fn upload(agent: &RunningAgent, path: &Path) {
    let before = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let after = "\r\n--b--\r\n";
    let length = before.len() as u64 + SIZE + after.len() as u64;
    let headers = format!("content-type: multipart/form-data; boundary=b\r\ncontent-length: {length}\r\n");
    let mut stream = agent.request(&files("POST", path), &headers);
    stream.write_all(before.as_bytes()).unwrap();
    let mut pattern = Pattern::new();
    for number in 0..PIECES {
        stream.write_all(pattern.piece(number)).unwrap();
    }
    stream.write_all(after.as_bytes()).unwrap();
    whole_body(stream, 200);
    assert_eq!(path.metadata().unwrap().len(), SIZE);
}

fn download(agent: &RunningAgent, path: &Path) {
    let mut body = body(agent.request(&files("GET", path), ""), 200);
    let (mut pattern, mut piece) = (Pattern::new(), vec![0; PIECE]);
    for number in 0..PIECES {
        body.read_exact(&mut piece).unwrap();
        assert!(piece == pattern.piece(number), "piece {number} is not what was sent");
    }
    assert_eq!(body.read(&mut piece).unwrap(), 0, "nothing follows");
}

#[test]
fn four_gib_go_in_and_out_through_little_memory() {
    // Where there is a disk, which /tmp need not be.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file");
    let agent = RunningAgent::start();
    for (what, transfer) in [("upload", upload as fn(&RunningAgent, &Path)), ("download", download)] {
        let begin = Instant::now();
        transfer(&agent, &path);
        println!("{what} of {SIZE} bytes: {:?}, the agent has had {} bytes at most", begin.elapsed(), agent.peak());
        assert!(agent.peak() < MOST, "{} bytes", agent.peak());
    }
}
