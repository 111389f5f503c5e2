//! Which path means what.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use connectrpc::{ConnectRpcService, Limits};

use super::cors::cors;
use super::request_body::cut_off_dribbling;
use crate::access::require_token;
use crate::agent::Agent;
use crate::files::{compose, download, upload};
use crate::filesystem::FilesystemRpc;
use crate::init::{envs, init};
use crate::metrics::metrics;
use crate::ports;
use crate::process::ProcessRpc;
use crate::snapshot::{abort, freeze, health, prepare, refuse_while_prepared, unfreeze};

/// Largest body of a control route.
const MAX_CONTROL_BODY: usize = 1 << 20;
/// Largest message of an RPC.
const MAX_MESSAGE: usize = 4 << 20;

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    let rpc = connectrpc::Router::new()
        .add_service(Arc::new(ProcessRpc::new(Arc::clone(&agent))))
        .add_service(Arc::new(FilesystemRpc::new(Arc::clone(&agent))));
    let limits = Limits::default().with_max_request_body_size(MAX_MESSAGE).with_max_message_size(MAX_MESSAGE);
    let user = Router::new()
        .route("/files", get(download).post(upload).layer(DefaultBodyLimit::disable()))
        .route("/files/compose", post(compose).layer(DefaultBodyLimit::max(MAX_CONTROL_BODY)))
        .route("/envs", get(envs))
        .route("/ports", get(ports::list))
        .route("/ports/events", get(ports::events))
        .fallback_service(ConnectRpcService::new(rpc).with_limits(limits))
        .layer(from_fn_with_state(Arc::clone(&agent), refuse_while_prepared));
    let control = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/init", post(init))
        .route("/freeze", post(freeze))
        .route("/unfreeze", post(unfreeze))
        .route("/snapshot/prepare", post(prepare))
        .route("/snapshot/abort", post(abort))
        .layer(DefaultBodyLimit::max(MAX_CONTROL_BODY));
    control
        .merge(user)
        .layer(from_fn_with_state(Arc::clone(&agent), cut_off_dribbling))
        .layer(from_fn_with_state(Arc::clone(&agent), require_token))
        // Outermost: a browser asks without a token first, and its page may read a refusal.
        .layer(from_fn(cors))
        .with_state(agent)
}
