//! A big file through `/files` of the agent as it runs, whose memory is its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test crate: the lint settings for tests reach only test functions, not what they share"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const SIZE: u64 = 4 << 30;
/// Most memory that the agent may ever have had.
const MOST: u64 = 16 << 20;
const PIECE: usize = 1 << 20;
const PIECES: u64 = SIZE / PIECE as u64;

/// An agent of its own, which ends with this value.
struct RunningAgent {
    process: Child,
    address: SocketAddr,
}

impl RunningAgent {
    fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse-agent"));
        let process = command.args(["--no-vm", "--listen", &address.to_string()]).spawn().unwrap();
        let mut agent = Self { process, address };
        for _ in 0..1000 {
            if TcpStream::connect(address).is_ok() {
                return agent;
            }
            assert!(agent.process.try_wait().unwrap().is_none(), "it ended at once");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not listen");
    }

    /// Sends the head of a request.
    fn request(&self, method: &str, path: &Path, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!("{method} /files?path={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", path.display());
        stream.write_all(format!("{head}{headers}\r\n").as_bytes()).unwrap();
        stream
    }

    /// Most memory that it has had so far.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
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

/// The rest of an answer that must be 200.
fn body(answer: TcpStream) -> BufReader<TcpStream> {
    let mut answer = BufReader::with_capacity(PIECE, answer);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    answer
}

/// In a form, as the SDKs send it.
fn upload(agent: &RunningAgent, path: &Path) {
    let before = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let after = "\r\n--b--\r\n";
    let length = before.len() as u64 + SIZE + after.len() as u64;
    let headers = format!("content-type: multipart/form-data; boundary=b\r\ncontent-length: {length}\r\n");
    let mut stream = agent.request("POST", path, &headers);
    stream.write_all(before.as_bytes()).unwrap();
    let mut pattern = Pattern::new();
    for number in 0..PIECES {
        stream.write_all(pattern.piece(number)).unwrap();
    }
    stream.write_all(after.as_bytes()).unwrap();
    body(stream).read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(path.metadata().unwrap().len(), SIZE);
}

fn download(agent: &RunningAgent, path: &Path) {
    let mut body = body(agent.request("GET", path, ""));
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
