//! The route.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dormouse_agent_proto::control::{ENVD_VERSION, InitRequest};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::checked::{Checked, bad_request};
use super::guest;
use super::settings::Done;
use crate::access::init_allowed;
use crate::agent::Agent;
use crate::server::{ConnectionId, HttpError};
use crate::snapshot::{begin_restore, finish_restore};

pub(crate) async fn init(
    State(agent): State<Arc<Agent>>,
    connection: Option<Extension<ConnectionId>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let request = parse(&body)?;
    init_allowed(&agent.access, &headers, request.access_token.as_deref())?;
    let checked = Checked::new(request)?;
    let caller = connection.map(|Extension(id)| id);
    // In a task of its own: a caller that goes away must not leave a guest half restored.
    let applied = tokio::spawn(async move { apply_in_turn(&agent, &checked, caller).await }).await;
    applied.map_err(|error| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok((StatusCode::NO_CONTENT, [("x-envd-version", ENVD_VERSION), ("cache-control", "no-store")]).into_response())
}

fn parse(body: &[u8]) -> Result<InitRequest, HttpError> {
    if body.is_empty() {
        return Ok(InitRequest::default());
    }
    serde_json::from_slice(body).map_err(|error| bad_request(format!("body is not an init request: {error}")))
}

/// One after the other, so that of two that race the newer one has the last word.
async fn apply_in_turn(agent: &Agent, checked: &Checked, caller: Option<ConnectionId>) {
    let mut done = agent.settings.turn().await;
    if !agent.settings.is_stale(checked.timestamp.map(Timestamp::as_nanosecond)) {
        apply(agent, checked, caller, &mut done).await;
    }
}

/// Everything that user processes could notice comes before they run on.
async fn apply(agent: &Agent, checked: &Checked, caller: Option<ConnectionId>, done: &mut Done) {
    let ending = begin_restore(agent).await;
    guest::change(agent, checked, done).await;
    agent.settings.apply(&checked.request, checked.events);
    if let Some(reclaim) = checked.request.reclaim {
        agent.reclaimer.enable(reclaim);
    }
    if let Some(token) = checked.request.access_token.as_ref().filter(|token| !token.is_empty()) {
        agent.access.set(token);
    }
    finish_restore(agent, ending, checked.request.generation, caller);
}
