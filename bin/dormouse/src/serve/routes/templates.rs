//! Templates: lists and removal.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use dormouse_api_types::Template;
use dormouse_api_types::own::TemplateEntry;

use dormouse_lifecycle::Error;

use super::template_id;
use crate::serve::app::Backend;
use crate::serve::convert;
use crate::serve::failure::Answer;

/// `GET /templates`, in E2B's shape.
pub(crate) async fn list(State(backend): State<Backend>) -> Json<Vec<Template>> {
    Json(backend.templates().iter().map(convert::template).collect())
}

/// `GET /dormouse/v1/templates`, with what they cost.
pub(crate) async fn own_list(State(backend): State<Backend>) -> Json<Vec<TemplateEntry>> {
    Json(backend.templates().iter().map(convert::template_entry).collect())
}

/// `DELETE /templates/{id}`: a template, or a kept snapshot by its id or name.
pub(crate) async fn remove(State(backend): State<Backend>, Path(id): Path<String>) -> Answer<StatusCode> {
    let name = template_id::parse(&id)?;
    match backend.remove_template(&name).await {
        Err(Error::NoTemplate(_)) => backend.remove_snapshot(name.as_str()).await?,
        other => other?,
    }
    Ok(StatusCode::NO_CONTENT)
}
