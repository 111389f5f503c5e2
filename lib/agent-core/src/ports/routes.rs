//! The routes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};

use super::board::{News, Port};
use super::scan::Source;
use crate::agent::Agent;

/// Pause after which an idle stream shows that it lives, and finds out whether its reader does.
const KEEPALIVE: Duration = Duration::from_secs(30);
const NO_STORE: (&str, &str) = ("cache-control", "no-store");

#[derive(Serialize)]
struct List {
    source: Source,
    ports: Vec<Port>,
}

/// `GET /ports`
pub(crate) async fn list(State(agent): State<Arc<Agent>>) -> Response {
    let (source, ports) = agent.ports.board.read();
    ([NO_STORE], Json(List { source, ports })).into_response()
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Set {
        ports: &'a [Port],
    },
    /// News were lost; here is the whole set again.
    Lagged {
        ports: &'a [Port],
    },
    Keepalive,
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

struct Reader {
    agent: Arc<Agent>,
    news: broadcast::Receiver<News>,
    ready: VecDeque<Bytes>,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.ready.pop_front() {
            return Some(line);
        }
        match tokio::time::timeout(KEEPALIVE, self.news.recv()).await {
            Ok(Ok(news)) => Some(line(&news)),
            Ok(Err(RecvError::Lagged(_))) => {
                let (ports, news) = self.agent.ports.board.subscribe();
                self.news = news;
                Some(line(&Line::Lagged { ports: &ports }))
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(line(&Line::Keepalive)),
        }
    }
}

/// `GET /ports/events`
pub(crate) async fn events(State(agent): State<Arc<Agent>>) -> Response {
    let (ports, news) = agent.ports.board.subscribe();
    let ready = VecDeque::from([line(&Line::Set { ports: &ports })]);
    let lines = stream::unfold(Reader { agent, news, ready }, async |mut reader| {
        let line = reader.next().await?;
        Some((Ok::<_, Infallible>(line), reader))
    });
    ([NO_STORE, ("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
