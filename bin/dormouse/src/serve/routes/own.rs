//! What only dormouse tells: every phase, costs on disk, snapshots, consoles.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use dormouse_api_types::own::{Inspection, RamMap, SandboxEntry};
use dormouse_lifecycle::SnapshotId;

use super::sandbox_id;
use crate::serve::app::Backend;
use crate::serve::convert;
use crate::serve::failure::{Answer, Failure};

/// `GET /dormouse/v1/sandboxes`, newest first.
pub(crate) async fn sandboxes(State(backend): State<Backend>) -> Json<Vec<SandboxEntry>> {
    let mut entries = Vec::new();
    for info in backend.list() {
        let on_disk = match &info.snapshot {
            Some(snapshot) => backend.inspect(snapshot).await.ok().map(|i| convert::inspection(i).on_disk()),
            None => None,
        };
        entries.push(convert::entry(&info, on_disk));
    }
    Json(entries)
}

/// `GET /dormouse/v1/sandboxes/{id}/snapshot`: its newest one.
pub(crate) async fn sandbox_snapshot(
    State(backend): State<Backend>,
    Path(id): Path<String>,
) -> Answer<Json<Inspection>> {
    let info = backend.get(&sandbox_id(&id)?)?;
    let none = || Failure::not_found(format!("sandbox {id} was never paused and has no snapshot"));
    let snapshot = info.snapshot.ok_or_else(none)?;
    Ok(Json(convert::inspection(backend.inspect(&snapshot).await?)))
}

/// `GET /dormouse/v1/snapshots/{id}`.
pub(crate) async fn snapshot(State(backend): State<Backend>, Path(id): Path<String>) -> Answer<Json<Inspection>> {
    Ok(Json(convert::inspection(backend.inspect(&snapshot_id(&id)?).await?)))
}

/// `GET /dormouse/v1/snapshots/{id}/map`.
pub(crate) async fn map(State(backend): State<Backend>, Path(id): Path<String>) -> Answer<Json<RamMap>> {
    Ok(Json(convert::ram_map(backend.ram_map(&snapshot_id(&id)?).await?)))
}

/// `GET /dormouse/v1/sandboxes/{id}/console`: what the guest printed last. Hostile bytes, told as such.
pub(crate) async fn console(
    State(backend): State<Backend>,
    Path(id): Path<String>,
) -> Answer<([(HeaderName, &'static str); 2], Vec<u8>)> {
    let text = backend.console(&sandbox_id(&id)?).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text))
}

pub(super) fn snapshot_id(text: &str) -> Answer<SnapshotId> {
    text.parse().map_err(|e| Failure::not_found(format!("no such snapshot: {e}")))
}
