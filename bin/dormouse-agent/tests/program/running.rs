//! The agent's program, and the smallest HTTP that shows what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

const BUFFER: usize = 1 << 20;
/// No answer of these tests takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent of its own, which ends with this value.
pub(crate) struct RunningAgent {
    process: Child,
    address: SocketAddr,
}

impl RunningAgent {
    pub(crate) fn start() -> Self {
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

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends the head of a request on a connection of its own. `headers` are whole lines.
    pub(crate) fn request(&self, request: &str, headers: &str) -> TcpStream {
        let mut stream = self.connect();
        let head = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Most memory that it has had so far.
    pub(crate) fn peak(&self) -> u64 {
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

/// The rest of an answer, whose status must be `status`.
pub(crate) fn body(answer: TcpStream, status: u16) -> BufReader<TcpStream> {
    let mut answer = BufReader::with_capacity(BUFFER, answer);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    answer
}

/// All of what [`body`] gives.
pub(crate) fn whole_body(answer: TcpStream, status: u16) -> String {
    let mut bytes = Vec::new();
    body(answer, status).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
