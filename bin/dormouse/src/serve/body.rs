//! Reading request bodies: JSON of any content type, with or without a length, within limits.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// No body of the API comes near this.
const MAX_BODY: usize = 1 << 20;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A JSON body. An absent one counts as `{}`, so that it is refused only where a field is required.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let reading = Limited::new(request.into_body(), MAX_BODY).collect();
        let body = match tokio::time::timeout(PATIENCE, reading).await {
            Err(_) => return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
            }
            Ok(Err(error)) => return Err(Failure::bad_request(format!("the body cannot be read: {error}"))),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let text: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
        let value = serde_json::from_slice(text).map_err(|e| Failure::bad_request(format!("the body is bad: {e}")))?;
        Ok(Self(value))
    }
}
