//! `GET /health`.

use axum::http::StatusCode;

/// The server answers.
pub(crate) async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}
