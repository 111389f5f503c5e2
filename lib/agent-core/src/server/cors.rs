//! Pages of any origin may call the agent: what protects it is its token, which no browser sends by itself.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// What pages may read of an answer besides what they always may: headers of Connect and gRPC, of files, and the version.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "accept-ranges, cache-control, connect-accept-encoding, connect-content-encoding, content-disposition, content-encoding, \
     content-length, content-range, etag, grpc-message, grpc-status, grpc-status-details-bin, last-modified, location, \
     x-content-type-options, x-envd-version",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Middleware: answers the questions of browsers (the Fetch standard's preflights) and lets pages read what they get. Clients that are
/// no browser name no origin and see nothing of this.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    if !request.headers().contains_key(ORIGIN) {
        return next.run(request).await;
    }
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut answer = if asks { allow(request.headers()) } else { next.run(request).await };
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    answer.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer
}

fn allow(asked: &HeaderMap) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // `*` would leave out `Authorization`, which names the user.
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    answer
}
