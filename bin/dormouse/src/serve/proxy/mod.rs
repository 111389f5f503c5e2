//! The way to a sandbox: requests that name one are streamed to its agent and back, untouched and unbounded.

mod blocked;
mod destination;
mod forward;
mod refusal;
mod stream_guard;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
pub(crate) use destination::Destination;
use dormouse_api_types::ENVD_PORT;
use dormouse_lifecycle::{Error, Phase, SandboxId};
use refusal::Refusal;

use super::app::Backend;
use super::failure::Failure;

/// Answers a request for a sandbox, from the sandbox if it can be reached.
pub(crate) async fn handle(backend: Backend, destination: Destination, request: Request) -> Response {
    let (id, port) = match destination {
        Destination::Sandbox { id, port } => (id, port),
        Destination::Incomplete(why) => return Failure::bad_request(why).into_response(),
        Destination::Api => return Failure::not_found("no such route").into_response(),
    };
    match reach(&backend, &id, port, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(&id),
    }
}

async fn reach(backend: &Backend, id: &str, port: u16, request: Request) -> Result<Response, Refusal> {
    let sandbox: SandboxId = id.parse().map_err(|_| Refusal::NotFound)?;
    let endpoint = backend.endpoint(&sandbox).await.map_err(|error| match error {
        Error::WrongPhase { phase: Phase::Creating | Phase::Pausing | Phase::Resuming, .. } => Refusal::Changing,
        _ => Refusal::NotFound,
    })?;
    if port != ENVD_PORT {
        return Err(Refusal::PortClosed(port));
    }
    if blocked::is_internal(request.uri().path()) {
        return Err(Refusal::Internal);
    }
    forward::forward(endpoint.addr, request).await.map_err(|error| {
        tracing::debug!(sandbox = %sandbox, error, "the agent cannot be reached");
        Refusal::PortClosed(port)
    })
}
