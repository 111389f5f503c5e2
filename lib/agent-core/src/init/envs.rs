//! `GET /envs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::agent::Agent;

/// The environment that every process gets besides its user's.
pub(crate) async fn envs(State(agent): State<Arc<Agent>>) -> Response {
    ([("cache-control", "no-store")], Json(agent.settings.env_vars())).into_response()
}
