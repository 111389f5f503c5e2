//! Clients that send the body of a request and stop half-way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::timeout::TimeoutBody;

use crate::agent::Agent;

/// The method whose client may say nothing for as long as the process lives.
const PATIENT: &str = "/process.Process/StreamInput";

/// Middleware: a body of which nothing comes for too long fails. Time in which nobody reads it does not count.
pub(super) async fn cut_off_dribbling(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    if request.uri().path() == PATIENT {
        return next.run(request).await;
    }
    let limit = agent.durations.request_body;
    next.run(request.map(|body| Body::new(TimeoutBody::new(limit, body)))).await
}
