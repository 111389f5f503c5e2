//! One plain request to an agent, where its client would be too much.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status of the answer to a request on a connection of its own.
///
/// # Errors
/// No answer within `patience`, or none that is HTTP.
pub async fn status_of(agent: SocketAddr, method: &str, path: &str, body: &str, patience: Duration) -> io::Result<u16> {
    let asking = async {
        let mut stream = TcpStream::connect(agent).await?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: guest\r\nconnection: close\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        let status = start.strip_prefix(b"HTTP/1.1 ").and_then(|code| str::from_utf8(code).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    };
    tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
