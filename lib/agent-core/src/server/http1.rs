//! A connection of HTTP/1.1.

use std::pin::pin;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connection::Answers;
use super::connections::Order;
use super::linger::Lingering;
use super::unread::Unread;
use super::unwanted_body::RequestBody;

/// What one connection may buffer in each direction, a head included: what it costs when its client is hostile.
const MAX_BUFFER: usize = 64 * 1024;

pub(super) async fn serve(stream: TcpStream, answers: Answers, mut orders: watch::Receiver<Order>) {
    let unread = Unread::default();
    let durations = answers.agent.durations;
    let stream = Lingering::new(stream, unread.clone(), durations.linger);
    let coming = unread.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        answers.answer(RequestBody::put_in(request, &coming, durations.linger))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_BUFFER)
            .header_read_timeout(durations.request_head)
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
