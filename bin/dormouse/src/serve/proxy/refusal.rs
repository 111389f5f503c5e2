//! Why a request does not reach a sandbox, in the texts that SDKs look for.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request does not reach a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not exist or does not run.
    NotFound,
    /// It runs, but nothing can be reached there.
    PortClosed(u16),
    /// It is about to run or to stop.
    Changing,
    /// The route is for the host alone.
    Internal,
}

impl Refusal {
    /// The answer. SDKs compare these messages, so they stay as they are.
    pub(crate) fn answer(self, id: &str) -> Response {
        let (status, body) = match self {
            Self::NotFound => {
                let message = "The sandbox was not found";
                (StatusCode::BAD_GATEWAY, json!({"sandboxId": id, "message": message, "code": 502}))
            }
            Self::PortClosed(port) => {
                let message = "The sandbox is running but port is not open";
                (StatusCode::BAD_GATEWAY, json!({"sandboxId": id, "message": message, "port": port, "code": 502}))
            }
            Self::Changing => {
                let message = "The sandbox is being paused or resumed, try again";
                (StatusCode::CONFLICT, json!({"sandboxId": id, "message": message, "code": 409}))
            }
            Self::Internal => {
                (StatusCode::NOT_FOUND, json!({"sandboxId": id, "message": "no such route", "code": 404}))
            }
        };
        (status, Json(body)).into_response()
    }
}
