//! The route.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dormouse_agent_proto::control::{ENVD_VERSION, InitRequest};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{clock, entropy, is_hostname, set_hostname};
use crate::access::init_allowed;
use crate::agent::Agent;
use crate::server::{ConnectionId, HttpError};

/// A checked request: nothing of it can be refused any more.
struct Checked {
    request: InitRequest,
    timestamp: Option<Timestamp>,
    entropy: Option<Zeroizing<Vec<u8>>>,
}

pub(crate) async fn init(
    State(agent): State<Arc<Agent>>,
    connection: Option<Extension<ConnectionId>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let request = parse(&body)?;
    init_allowed(&agent.access, &headers, request.access_token.as_deref())?;
    let checked = check(request)?;
    if !agent.settings.is_stale(checked.timestamp.map(Timestamp::as_nanosecond)) {
        apply(&agent, &checked, connection.map(|Extension(id)| id)).await;
    }
    Ok((StatusCode::NO_CONTENT, [("x-envd-version", ENVD_VERSION), ("cache-control", "no-store")]).into_response())
}

fn parse(body: &[u8]) -> Result<InitRequest, HttpError> {
    if body.is_empty() {
        return Ok(InitRequest::default());
    }
    serde_json::from_slice(body).map_err(|error| bad_request(format!("body is not an init request: {error}")))
}

fn bad_request(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, message)
}

fn check(request: InitRequest) -> Result<Checked, HttpError> {
    let timestamp = match &request.timestamp {
        None => None,
        Some(text) => Some(text.parse().map_err(|error| bad_request(format!("timestamp is not RFC 3339: {error}")))?),
    };
    let entropy =
        request.entropy.as_deref().map(entropy::decode).transpose().map_err(|e| bad_request(e.to_string()))?;
    if let Some(name) = request.hostname.as_ref().filter(|name| !is_hostname(name)) {
        return Err(bad_request(format!("not a host name: {name:?}")));
    }
    Ok(Checked { request, timestamp, entropy })
}

/// Everything that user processes could notice comes before they run on.
async fn apply(agent: &Arc<Agent>, checked: &Checked, caller: Option<ConnectionId>) {
    if agent.guest.is_some() {
        change_guest(checked);
    }
    agent.settings.apply(&checked.request);
    if let Some(token) = checked.request.access_token.as_ref().filter(|token| !token.is_empty()) {
        agent.access.set(token);
    }
    if agent.snapshot.restore(checked.request.generation).await {
        agent.connections.abort_all_but(caller);
    }
}

/// Each of these is worth having without the others, so a failure of one stops none; the console tells.
fn change_guest(checked: &Checked) {
    let report = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            crate::boot::log(&format!("init: {what}: {error}"));
        }
    };
    if let Some(timestamp) = checked.timestamp {
        report("cannot step the clock", clock::step_forward(timestamp));
    }
    if let Some(bytes) = &checked.entropy {
        report("cannot reseed the random generator", entropy::reseed(bytes));
    }
    if let Some(name) = &checked.request.hostname {
        report("cannot set the host name", set_hostname(name));
    }
}
