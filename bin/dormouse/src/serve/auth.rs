//! The guard in front of the API: everything but `/health` needs the key.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::failure::Failure;
use crate::state_dir::ApiKey;

/// Where clients put the key.
pub(crate) const API_KEY: &str = "x-api-key";

/// Lets a request through if it carries the key or needs none.
pub(crate) async fn guard(State(key): State<Arc<ApiKey>>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/health" || carries(request.headers(), &key) {
        return next.run(request).await;
    }
    let message = "unauthorized: send the API key of this server's state folder in X-API-Key";
    Failure::new(StatusCode::UNAUTHORIZED, message).into_response()
}

/// Whether the one key header holds the key. Takes as long for a nearly right key as for a wrong one.
fn carries(headers: &HeaderMap, key: &ApiKey) -> bool {
    let mut values = headers.get_all(API_KEY).iter();
    match (values.next(), values.next()) {
        (Some(given), None) => given.as_bytes().ct_eq(key.expose().as_bytes()).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_whole_key_alone_opens() {
        let text = format!("e2b_{}", "0a".repeat(20));
        let key = ApiKey::parse(&text).unwrap();
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(API_KEY, HeaderValue::from_str(value).unwrap());
            }
            carries(&headers, &key)
        };
        assert!(with(&[&text]));
        let wrong = text.replace("0a0a0a", "0a0a0b");
        for bad in [&[][..], &[""], &[&text[..43]], &[&wrong], &[&text, &text], &["e2b_"]] {
            assert!(!with(bad), "{bad:?}");
        }
    }
}
