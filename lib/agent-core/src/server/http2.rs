//! A connection of HTTP/2 without TLS, whose client knew beforehand that this is spoken here: gRPC needs it.

use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connection::Answers;
use super::connections::Order;

/// Requests at a time; others wait at the client.
const MAX_STREAMS: u32 = 64;
/// What may come that nobody has read yet, of one request and of all together: what a connection costs when its client is hostile.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What waits to be sent of one answer.
const MAX_SEND_BUFFER: usize = 64 * 1024;

pub(super) async fn serve(stream: TcpStream, answers: Answers, mut orders: watch::Receiver<Order>) {
    let (agent, id) = (Arc::clone(&answers.agent), answers.id);
    // What is left of a body that nobody wants needs no throwing away here: its stream is reset, the others go on.
    let service = service_fn(move |request: Request<Incoming>| answers.answer(request));
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut looks = tokio::time::interval(agent.durations.request_head);
    looks.tick().await;
    let (mut idle, mut told) = (agent.connections.idle_since(id), false);
    loop {
        tokio::select! {
            // Errors are the client's.
            _ = connection.as_mut() => return,
            _ = looks.tick() => {
                let since = agent.connections.idle_since(id);
                match since {
                    // Told that nothing is answered any more, it had as long again to go.
                    Some(_) if told => return,
                    Some(_) if since == idle => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    _ => idle = since,
                }
            }
            changed = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    Order::Serve if changed.is_ok() => {}
                    Order::Finish if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                    _ => return,
                }
            }
        }
    }
}
