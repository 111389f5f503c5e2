//! Requests as function calls: routes, access, frames and handlers, without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tower::ServiceExt;

use super::routes::routes;
use crate::agent::Agent;
use crate::testing::pieces;

/// What of an answer is read.
const MAX_ANSWER: usize = 1 << 20;

/// What answers requests to one agent.
pub struct Requests(Router);

impl Requests {
    /// Requests to `agent`.
    #[must_use]
    pub fn new(agent: Arc<Agent>) -> Self {
        Self(routes(agent))
    }

    /// Sends `request`, whose body comes in pieces of `size` bytes, and reads the answer for at most `patience`. `None` when the answer
    /// did not come or end in that time.
    pub async fn ask(&self, request: Request<Vec<u8>>, size: usize, patience: Duration) -> Option<StatusCode> {
        let answering = async {
            let request = request.map(|body| Body::from_stream(pieces(&body, size)));
            let Ok(answer) = self.0.clone().oneshot(request).await;
            let status = answer.status();
            // An answer that breaks off is an answer.
            let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            status
        };
        tokio::time::timeout(patience, answering).await.ok()
    }
}
