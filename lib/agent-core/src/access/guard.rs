//! Where the token is asked for.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};

use super::{Access, FileOperation, SignedQuery};
use crate::agent::Agent;
use crate::server::HttpError;

const HEADER: &str = "x-access-token";
const UNAUTHORIZED: &str = "unauthorized access, please provide a valid access token or method signing if supported";

fn header_token(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(HEADER).map(http::HeaderValue::as_bytes)
}

fn unauthorized(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::UNAUTHORIZED, message)
}

/// Routes that do their own check, or need none.
fn is_exempt(method: &Method, path: &str) -> bool {
    matches!((method.as_str(), path), ("GET", "/health") | ("GET" | "POST", "/files") | ("POST", "/init"))
}

/// Middleware: refuses requests without the token.
pub(crate) async fn require_token(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    if is_exempt(request.method(), request.uri().path()) || agent.access.admits(header_token(request.headers())) {
        return next.run(request).await;
    }
    unauthorized(UNAUTHORIZED).into_response()
}

/// `/files`: the header if there is one, else the signature.
pub(crate) fn files_allowed(
    access: &Access,
    headers: &HeaderMap,
    query: &SignedQuery,
    operation: FileOperation,
    now: i64,
) -> Result<(), HttpError> {
    match header_token(headers) {
        Some(given) if access.admits(Some(given)) => Ok(()),
        Some(_) => Err(unauthorized("access token present in header but does not match")),
        None => access.admits_signature(query, operation, now).map_err(|error| unauthorized(error.to_string())),
    }
}

/// `/init`: free until there is a token; then the caller shows that it knows the current one, in the header or in the body.
pub(crate) fn init_allowed(access: &Access, headers: &HeaderMap, body_token: Option<&str>) -> Result<(), HttpError> {
    if access.admits(header_token(headers)) || access.admits(body_token.map(str::as_bytes)) {
        return Ok(());
    }
    Err(unauthorized(UNAUTHORIZED))
}
