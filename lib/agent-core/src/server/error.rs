//! Error bodies of the plain HTTP routes: `{"code":int,"message":string}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

#[derive(Debug)]
pub(crate) struct HttpError {
    status: StatusCode,
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    code: u16,
    message: &'a str,
}

impl HttpError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = Body { code: self.status.as_u16(), message: &self.message };
        (self.status, [("cache-control", "no-store")], Json(body)).into_response()
    }
}
