//! The routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dormouse_agent_proto::control::{PrepareReport, PrepareRequest};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::freeze::{self, FreezeError};
use super::prepare::{self, PrepareError};
use super::restore;
use crate::agent::Agent;
use crate::server::{ConnectionId, HttpError};

const NO_STORE: [(&str, &str); 1] = [("cache-control", "no-store")];

fn no_content() -> Response {
    (StatusCode::NO_CONTENT, NO_STORE).into_response()
}

/// Runs `work` in a task of its own: a caller that goes away must not leave it half done.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, HttpError> {
    tokio::spawn(work).await.map_err(|error| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// `GET /health`. Answers at once, whatever is going on.
pub(crate) async fn health(State(agent): State<Arc<Agent>>, connection: Option<Extension<ConnectionId>>) -> Response {
    restore::health_was_asked(&agent, connection.map(|Extension(id)| id));
    no_content()
}

/// `POST /snapshot/prepare`
pub(crate) async fn prepare(
    State(agent): State<Arc<Agent>>,
    connection: Option<Extension<ConnectionId>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let request = parse(&body)?;
    let caller = connection.map(|Extension(id)| id);
    let report = to_its_end(async move { prepare::prepare(&agent, request, caller).await }).await?;
    Ok(answer(&headers, &report.map_err(refused)?))
}

fn parse(body: &[u8]) -> Result<PrepareRequest, HttpError> {
    if body.is_empty() {
        return Ok(PrepareRequest::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("body is not a prepare request: {error}")))
}

fn refused(error: PrepareError) -> HttpError {
    let status = match error {
        PrepareError::Busy | PrepareError::Aborted => StatusCode::CONFLICT,
        PrepareError::NotQuiet => StatusCode::SERVICE_UNAVAILABLE,
    };
    HttpError::new(status, error.to_string())
}

fn answer(headers: &HeaderMap, report: &PrepareReport) -> Response {
    let accepts =
        headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|v| v.contains("application/json")));
    if accepts { (NO_STORE, Json(report)).into_response() } else { no_content() }
}

/// `POST /snapshot/abort`
pub(crate) async fn abort(State(agent): State<Arc<Agent>>) -> Result<Response, HttpError> {
    to_its_end(async move { restore::abort(&agent).await }).await?;
    Ok(no_content())
}

/// Query of `POST /freeze`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FreezeQuery {
    max_wait_ms: Option<u64>,
}

/// `POST /freeze`
pub(crate) async fn freeze(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<FreezeQuery>,
) -> Result<Response, HttpError> {
    let wait = query.max_wait_ms.map_or(freeze::DEFAULT_WAIT, Duration::from_millis);
    let frozen = to_its_end(async move { freeze::freeze(&agent, wait).await }).await?;
    frozen.map_err(|error| {
        let status = match error {
            FreezeError::Busy | FreezeError::CalledOff => StatusCode::CONFLICT,
            FreezeError::NotStopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        HttpError::new(status, error.to_string())
    })?;
    Ok(no_content())
}

/// `POST /unfreeze`
pub(crate) async fn unfreeze(State(agent): State<Arc<Agent>>) -> Result<Response, HttpError> {
    if to_its_end(async move { restore::unfreeze(&agent).await }).await? {
        return Ok(no_content());
    }
    Err(HttpError::new(StatusCode::CONFLICT, FreezeError::Busy.to_string()))
}

/// Middleware: between prepare and restore, and while user processes are frozen, no user request begins.
pub(crate) async fn refuse_while_prepared(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    if agent.snapshot.is_running() {
        return next.run(request).await;
    }
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "a snapshot is in progress, try again").into_response()
}
