//! The routes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dormouse_agent_proto::control::{PrepareReport, PrepareRequest};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};

use super::prepare::{self, PrepareError};
use crate::agent::Agent;
use crate::server::{ConnectionId, HttpError};

const NO_STORE: [(&str, &str); 1] = [("cache-control", "no-store")];

/// `POST /snapshot/prepare`
pub(crate) async fn prepare(
    State(agent): State<Arc<Agent>>,
    connection: Option<Extension<ConnectionId>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let request = parse(&body)?;
    let caller = connection.map(|Extension(id)| id);
    // In a task of its own: a caller that goes away must not leave it half done.
    let task = tokio::spawn(async move { prepare::prepare(&agent, request, caller).await });
    let report = task.await.map_err(|error| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
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
    if accepts { (NO_STORE, Json(report)).into_response() } else { (StatusCode::NO_CONTENT, NO_STORE).into_response() }
}

/// `POST /snapshot/abort`
pub(crate) async fn abort(State(agent): State<Arc<Agent>>) -> Response {
    agent.snapshot.leave().await;
    (StatusCode::NO_CONTENT, NO_STORE).into_response()
}

/// Middleware: between prepare and restore no user request begins.
pub(crate) async fn refuse_while_prepared(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    if agent.snapshot.is_running() {
        return next.run(request).await;
    }
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "a snapshot is in progress, try again").into_response()
}
