//! An agent of raw sockets, so that a test decides on every byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where the next connection comes in.
pub(super) struct FakeAgent {
    listener: TcpListener,
}

/// One connection.
pub(super) struct Peer {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl FakeAgent {
    pub(super) async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (Self { listener }, addr)
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer { stream: self.listener.accept().await.unwrap().0, seen: Vec::new() }
    }
}

impl Peer {
    /// Reads until what came holds `text`, and gives all of it.
    pub(super) async fn read_until(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                return seen;
            }
            let read = self.stream.read_buf(&mut self.seen).await.unwrap();
            assert!(read > 0, "the proxy closed the connection; seen: {seen}");
        }
    }

    pub(super) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits until the other side has closed the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}
