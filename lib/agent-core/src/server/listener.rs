//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use super::connection::{self, Answers};
use super::routes::routes;
use crate::agent::Agent;
use crate::reclaim;

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
                let answers = Answers { agent: Arc::clone(agent), routes: routes.clone(), id };
                let agent = Arc::clone(agent);
                tokio::spawn(async move {
                    connection::serve(stream, answers, orders).await;
                    agent.connections.forget(id);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}
