//! Snapshots that callers keep.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use dormouse_api_types::own::SnapshotEntry;
use dormouse_api_types::{NewSnapshot, Snapshot};
use dormouse_lifecycle::{SnapshotInfo, TemplateName};
use serde::Deserialize;

use super::{sandbox_id, template_id};
use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::convert;
use crate::serve::failure::{Answer, Failure};

/// `POST /sandboxes/{id}/snapshots`. When this answers, the snapshot is durable; the sandbox goes on. A client that goes away
/// drops this future, and with it the snapshot.
pub(crate) async fn create(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<NewSnapshot>,
) -> Answer<(StatusCode, Json<Snapshot>)> {
    if body.memory == Some(false) {
        return Err(Failure::bad_request("this server has no snapshots without memory yet"));
    }
    let name = body.name.as_deref().map(name).transpose()?;
    let info = backend.checkpoint(&sandbox_id(&id)?, name).await?;
    Ok((StatusCode::CREATED, Json(convert::snapshot(&info))))
}

/// As clients write it, with the tag that every build has.
fn name(text: &str) -> Answer<TemplateName> {
    template_id::parse(text).map_err(|bad| Failure::bad_request(bad.message))
}

/// The query of the list. `limit` and `nextToken` are not looked at: an answer is always whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    #[serde(rename = "sandboxID")]
    sandbox_id: Option<String>,
    name: Option<String>,
}

/// `GET /snapshots`, newest first, in E2B's shape.
pub(crate) async fn list(
    State(backend): State<Backend>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<Vec<Snapshot>>> {
    let Query(filter) = filter.map_err(|e| Failure::bad_request(e.to_string()))?;
    let named = filter.name.as_deref().map(template_id::parse).transpose()?;
    let wanted = |info: &&SnapshotInfo| {
        filter.sandbox_id.as_deref().is_none_or(|id| id == info.sandbox.as_str())
            && named.as_ref().is_none_or(|name| info.name.as_ref() == Some(name))
    };
    Ok(Json(backend.snapshots().iter().filter(wanted).map(convert::snapshot).collect()))
}

/// `GET /dormouse/v1/snapshots`, with what they cost.
pub(crate) async fn own_list(State(backend): State<Backend>) -> Json<Vec<SnapshotEntry>> {
    Json(backend.snapshots().iter().map(convert::snapshot_entry).collect())
}
