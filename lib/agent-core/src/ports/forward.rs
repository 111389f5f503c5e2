//! One forwarder: a listener on the guest's address whose connections go on to a server on the loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that wait for the forwarder.
const BACKLOG: u32 = 1024;
/// What a connection buffers in each direction.
const BUFFER: usize = 16 * 1024;
/// Pause after a failed accept, which nearly always means that descriptors ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Listens on `address` and on no other, so that servers on other addresses of the same port are not hindered.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of an earlier forwarder that linger do not count.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Forwards to `target` until dropped, and with it all its connections. `room` bounds the connections of all forwarders: without room
/// none is accepted, and clients wait.
pub(super) async fn forward(listener: TcpListener, target: SocketAddr, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = connections.join_next() => {}
            }
        };
        match accepted {
            Ok((client, _)) => {
                connections.spawn(async move {
                    // An error is one of the two ends', who see it themselves.
                    let _ = connection(client, target).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Copies both ways; the end of one direction is passed on and the other goes on. A server that refuses is a reset for the client,
/// as it would be without a forwarder.
async fn connection(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target).await;
    let Ok(mut server) = server else { return client.set_zero_linger() };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn forwarder(places: usize) -> (TcpListener, SocketAddr, tokio::task::JoinHandle<()>, Arc<Semaphore>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let listener = listen(SocketAddr::from(([127, 0, 0, 2], target.port()))).unwrap();
        let at = listener.local_addr().unwrap();
        let room = Arc::new(Semaphore::new(places));
        let task = tokio::spawn(forward(listener, target, Arc::clone(&room)));
        (server, at, task, room)
    }

    #[tokio::test]
    async fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
        let (server, at, _task, _) = forwarder(4).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        served.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_000);
        served.write_all(b"still here").await.unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "still here");
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_an_error_for_the_client_and_not_a_silence() {
        let (server, at, _task, _) = forwarder(4).await;
        drop(server);
        let mut client = TcpStream::connect(at).await.unwrap();
        assert!(client.read(&mut [0; 1]).await.is_err());
    }

    #[tokio::test]
    async fn without_room_a_client_waits_and_is_served_when_another_has_gone() {
        let (server, at, _task, _) = forwarder(1).await;
        let first = TcpStream::connect(at).await.unwrap();
        let (served, _) = server.accept().await.unwrap();
        let _second = TcpStream::connect(at).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), server.accept()).await;
        assert!(early.is_err(), "the second is not let through yet");
        drop((first, served));
        tokio::time::timeout(Duration::from_secs(10), server.accept()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_forwarder_that_is_stopped_ends_its_connections_and_frees_its_port() {
        let (server, at, task, room) = forwarder(4).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let (_served, _) = server.accept().await.unwrap();
        task.abort();
        assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        assert!(task.await.unwrap_err().is_cancelled());
        std::net::TcpListener::bind(at).unwrap();
        drop(room);
    }
}
