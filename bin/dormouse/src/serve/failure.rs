//! Answers that are no success. All of them are JSON, since SDKs parse them as such.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dormouse_api_types::ApiError;
use dormouse_lifecycle::Error;

/// A status and what is wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

/// What handlers give.
pub(crate) type Answer<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> ApiError {
        ApiError { code: self.status.as_u16(), message: self.message.clone() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::NoSandbox(_) | Error::NoTemplate(_) | Error::NoSnapshot(_) | Error::NoKeptSnapshot(_) => {
                StatusCode::NOT_FOUND
            }
            Error::WrongPhase { .. }
            | Error::TemplateInUse { .. }
            | Error::NameTaken(_)
            | Error::CannotCollect { .. } => StatusCode::CONFLICT,
            Error::NoSpace { .. } | Error::NoMemory { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Error::NotFetched { .. } | Error::Remote { .. } => StatusCode::BAD_GATEWAY,
            Error::ShuttingDown | Error::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a request failed");
        }
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
