//! A server on a free port, and a client that shows everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::fake_host::FakeHost;
use crate::serve::{app, listener};
use crate::state_dir::ApiKey;

/// A test that waits for ever does not tell what it waits for.
const DEADLINE: Duration = Duration::from_secs(15);
pub(super) const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// Serves until dropped.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    _stop: watch::Sender<bool>,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

pub(super) async fn start(host: FakeHost) -> Server {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let app = app::app(Arc::new(host), ApiKey::parse(KEY).unwrap());
    tokio::spawn(listener::serve(socket, app, stopping));
    Server { addr, _stop: stop }
}

impl Server {
    /// Sends a request with the key.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(method, path, &format!("X-API-Key: {KEY}\r\n"), body).await
    }

    /// Sends a request with these header lines.
    pub(super) async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut whole = Vec::new();
        let reading = stream.read_to_end(&mut whole);
        tokio::time::timeout(DEADLINE, reading).await.expect("no answer in time").unwrap();
        parse(&whole)
    }
}

fn parse(whole: &[u8]) -> Answer {
    let end = whole.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(whole[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: whole[end + 4..].to_vec() }
}
