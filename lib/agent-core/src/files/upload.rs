//! `POST /files`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

use super::write::{whole_body, write_file};
use super::{place, unix_now, user};
use crate::access::{FileOperation, SignedQuery, files_allowed};
use crate::agent::Agent;
use crate::identity::User;
use crate::server::HttpError;

/// One written file in the answer.
#[derive(Debug, Serialize)]
struct Written {
    path: String,
    name: String,
    r#type: &'static str,
}

impl Written {
    fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { path: path.to_string_lossy().into_owned(), name, r#type: "file" }
    }
}

fn bad_request(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, message)
}

pub(crate) async fn upload(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<SignedQuery>,
    request: Request,
) -> Result<Response, HttpError> {
    files_allowed(&agent.access, request.headers(), &query, FileOperation::Write, unix_now())?;
    let user = user(&agent, query.username.as_deref())?;
    let asked = query.path.as_deref().filter(|path| !path.is_empty()).map(|path| place(path, &user)).transpose()?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let written = match kind.split(';').next().map(str::trim).unwrap_or("") {
        "application/octet-stream" => {
            let path = asked.ok_or_else(|| bad_request("an octet-stream upload needs a path"))?;
            write_file(&path, &user, whole_body(request.into_body())).await?;
            vec![Written::new(&path)]
        }
        "multipart/form-data" => multipart(request, asked, &user).await?,
        other => {
            return Err(bad_request(format!("content type '{other}' is neither multipart/form-data nor octet-stream")));
        }
    };
    Ok(Json(written).into_response())
}

/// Writes each part named `file`. Without a path in the query, the part's file name is the path.
async fn multipart(request: Request, asked: Option<PathBuf>, user: &User) -> Result<Vec<Written>, HttpError> {
    let broken = |error: MultipartError| bad_request(format!("multipart body: {error}"));
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| bad_request(error.to_string()))?;
    let mut written = Vec::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            continue;
        }
        let path = part_path(&field, asked.as_deref(), user)?;
        write_file(&path, user, field).await?;
        written.push(Written::new(&path));
    }
    Ok(written)
}

fn part_path(field: &Field<'_>, asked: Option<&Path>, user: &User) -> Result<PathBuf, HttpError> {
    match (asked, field.file_name().filter(|name| !name.is_empty())) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(name)) => place(name, user),
        (None, None) => Err(bad_request("a file part needs a file name when the query has no path")),
    }
}
