//! Accepting and serving connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt;

use super::answer::AnswerBody;
use super::connections::{ConnectionId, Order};
use super::linger::Lingering;
use super::routes::routes;
use super::unread::Unread;
use super::unwanted_body::RequestBody;
use crate::agent::Agent;
use crate::reclaim;

/// What one connection may buffer in each direction, a head included: what it costs when its client is hostile.
const MAX_BUFFER: usize = 64 * 1024;
/// Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: u32 = 4096;
/// Pause after a failed accept, which nearly always means that descriptors ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Listens on `address`. Connections of a burst wait to be accepted; the customary 128 would make the next client try again after a
/// whole second.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library does, so that a restart finds the port free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `agent` on `listener`, and reclaims memory, until the future is dropped. Connections go on in tasks of their own.
pub async fn serve(agent: Arc<Agent>, listener: TcpListener) {
    tokio::join!(accept(&agent, listener), reclaim::run(&agent));
}

async fn accept(agent: &Arc<Agent>, listener: TcpListener) {
    let routes = routes(Arc::clone(agent));
    if let Ok(own) = listener.local_addr() {
        agent.ports.set_own(own.port());
    }
    agent.ports.start();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Dropping it closes it.
                let Some((id, orders)) = agent.connections.register(peer) else { continue };
                let (agent, routes) = (Arc::clone(agent), routes.clone());
                tokio::spawn(async move {
                    connection(stream, routes, &agent, id, orders).await;
                    agent.connections.forget(id);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    routes: axum::Router,
    agent: &Agent,
    id: ConnectionId,
    mut orders: watch::Receiver<Order>,
) {
    // A failure only costs latency.
    let _ = stream.set_nodelay(true);
    let unread = Unread::default();
    let patience = agent.durations.linger;
    let stream = Lingering::new(stream, unread.clone(), patience);
    let coming = unread.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(id);
        let answering = agent.connections.answering(id);
        let routes = routes.clone();
        let request = RequestBody::put_in(request, &coming, patience);
        async move {
            let Ok(response) = routes.oneshot(request.map(Body::new)).await;
            Ok::<_, Infallible>(response.map(|inner| AnswerBody { inner, answering }))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_BUFFER)
            .header_read_timeout(agent.durations.request_head)
            .serve_connection(TokioIo::new(stream), service)
    );
    loop {
        tokio::select! {
            // Errors are the client's: it went away or does not speak HTTP.
            _ = connection.as_mut() => return,
            // Only to look at it again.
            () = unread.given_up() => {}
            changed = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    Order::Serve if changed.is_ok() => {}
                    Order::Finish if changed.is_ok() => {
                        // A snapshot does not wait for who is about to ask something.
                        unread.settled();
                        connection.as_mut().graceful_shutdown();
                    }
                    _ => return,
                }
            }
        }
    }
}
