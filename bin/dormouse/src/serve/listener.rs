//! Takes connections and serves each, within limits that a slow or hostile client cannot stretch.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// SDKs send about twenty headers.
const MAX_HEADERS: usize = 100;
const MAX_HEAD: usize = 64 << 10;
/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long requests under way may go on when the server stops.
const GRACE: Duration = Duration::from_secs(3);
/// After a failed accept, such as for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, then lets requests under way finish for a moment and cuts off the rest.
pub(crate) async fn serve(listener: TcpListener, app: Router, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stopped(&mut stop) => break,
        };
        let Some((stream, permit)) = accepted else { continue };
        let (app, stop) = (app.clone(), stop.clone());
        connections.spawn(async move {
            one(stream, app, stop).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let finishing = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finishing).await.is_err() {
        tracing::info!(connections = connections.len(), "cutting off connections that go on");
        connections.shutdown().await;
    }
}

/// Waits until the server is to stop, which it also is when nobody can say so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // What this gives holds a lock, and must not live on.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "accepting a connection failed");
            tokio::time::sleep(BREATH).await;
            None
        }
    }
}

async fn one(stream: tokio::net::TcpStream, app: Router, mut stop: watch::Receiver<bool>) {
    // Small chunks of a command's output must not wait for more.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
