//! All routes, with the guard and the proxy in front of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};

use super::failure::Failure;
use super::sandboxes::Sandboxes;
use super::{auth, proxy, routes};
use crate::state_dir::ApiKey;

/// What handlers work with.
pub(crate) type Backend = Arc<dyn Sandboxes>;

/// The whole server, as a service without a socket.
pub(crate) fn app(backend: Backend, key: ApiKey) -> Router {
    use routes::{build, control, create, health, list, own, snapshots, store, templates};
    Router::new()
        .route("/health", get(health::health))
        .route("/sandboxes", post(create::v1).get(list::running))
        .route("/v2/sandboxes", post(create::v2).get(list::all))
        .route("/sandboxes/{id}", get(control::get).delete(control::kill))
        .route("/sandboxes/{id}/pause", post(control::pause))
        .route("/sandboxes/{id}/resume", post(control::resume))
        .route("/sandboxes/{id}/connect", post(control::connect_v1))
        .route("/v2/sandboxes/{id}/connect", post(control::connect_v2))
        .route("/sandboxes/{id}/timeout", post(control::set_timeout))
        .route("/sandboxes/{id}/refreshes", post(control::refresh))
        .route("/sandboxes/{id}/fork", post(control::fork))
        .route("/sandboxes/{id}/snapshots", post(snapshots::create))
        .route("/snapshots", get(snapshots::list))
        .route("/templates", get(templates::list))
        .route("/templates/{id}", delete(templates::remove))
        .route("/dormouse/v1/templates", get(templates::own_list))
        .route("/dormouse/v1/templates/{name}/build", post(build::build))
        .route("/dormouse/v1/sandboxes", get(own::sandboxes))
        .route("/dormouse/v1/sandboxes/{id}/snapshot", get(own::sandbox_snapshot))
        .route("/dormouse/v1/sandboxes/{id}/console", get(own::console))
        .route("/dormouse/v1/snapshots", get(snapshots::own_list))
        .route("/dormouse/v1/snapshots/{id}", get(own::snapshot))
        .route("/dormouse/v1/snapshots/{id}/map", get(own::map))
        .route("/dormouse/v1/store", get(store::stats))
        .route("/dormouse/v1/store/verify", post(store::verify))
        .route("/dormouse/v1/store/gc", post(store::collect))
        .fallback(async || Failure::not_found("no such route"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no such method on this route")
        })
        .layer(from_fn_with_state(Arc::new(key), auth::guard))
        .layer(from_fn_with_state(Arc::clone(&backend), to_sandbox))
        .layer(from_fn(log))
        .with_state(backend)
}

/// Takes out requests that are meant for a sandbox. Those are guarded by the sandbox's own token.
async fn to_sandbox(State(backend): State<Backend>, request: Request, next: Next) -> Response {
    match proxy::Destination::of(request.headers()) {
        proxy::Destination::Api => next.run(request).await,
        destination => proxy::handle(backend, destination, request).await,
    }
}

/// Headers and queries may hold secrets, so neither is logged.
async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    tracing::debug!(%method, path, status = response.status().as_u16(), "request");
    response
}
