//! `POST /files`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, StatusCode, header};

use super::gunzip::Gunzip;
use super::metadata::{self, Metadata};
use super::multipart::Parts;
use super::write::write_file;
use super::written::Written;
use super::{bad_request, place, unix_now, user};
use crate::access::{FileOperation, SignedQuery, files_allowed};
use crate::agent::Agent;
use crate::identity::User;
use crate::server::HttpError;

/// Most bytes of paths that one request may name, since the answer names them all again.
const MAX_NAMED: usize = 1 << 20;

/// The content of a request or of a part of one.
type Content = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

pub(crate) async fn upload(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<SignedQuery>,
    request: Request,
) -> Result<Response, HttpError> {
    files_allowed(&agent.access, request.headers(), &query, FileOperation::Write, unix_now())?;
    let user = user(&agent, query.username.as_deref())?;
    let asked = query.path.as_deref().filter(|path| !path.is_empty()).map(|path| place(path, &user)).transpose()?;
    let metadata = metadata::of_request(request.headers()).map_err(|error| bad_request(error.to_string()))?;
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let content = content(request)?;
    let written = match kind.split(';').next().map(|kind| kind.trim().to_ascii_lowercase()).as_deref().unwrap_or("") {
        "application/octet-stream" => {
            let path = asked.ok_or_else(|| bad_request("an octet-stream upload needs a path"))?;
            write_file(&path, &user, &metadata, content).await?;
            vec![Written::new(&path, &metadata)]
        }
        "multipart/form-data" => {
            let parts = Parts::new(content, &kind).map_err(|error| bad_request(format!("multipart body: {error}")))?;
            multipart(parts, asked, &user, &metadata).await?
        }
        other => {
            return Err(bad_request(format!("content type '{other}' is neither multipart/form-data nor octet-stream")));
        }
    };
    Ok(Json(written).into_response())
}

/// The body as it was before its coding.
fn content(request: Request) -> Result<Content, HttpError> {
    let gzip = is_gzip(request.headers())?;
    let body = request.into_body().into_data_stream().map_err(io::Error::other);
    Ok(if gzip { Box::pin(Gunzip::new(body)) } else { Box::pin(body) })
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, HttpError> {
    let mut codings =
        headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?").trim());
    match (codings.next().map(str::to_ascii_lowercase).as_deref(), codings.next()) {
        (None | Some("" | "identity"), None) => Ok(false),
        (Some("gzip" | "x-gzip"), None) => Ok(true),
        _ => Err(HttpError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content encodings other than one gzip are not known",
        )),
    }
}

/// Writes each part named `file`. Without a path in the query, the part's file name is the path.
async fn multipart(
    mut parts: Parts,
    asked: Option<PathBuf>,
    user: &User,
    metadata: &Metadata,
) -> Result<Vec<Written>, HttpError> {
    let mut written: Vec<Written> = Vec::new();
    let mut named = 0_usize;
    while let Some((field, taken)) =
        parts.next_file().await.map_err(|error| bad_request(format!("multipart body: {error}")))?
    {
        let path = part_path(field.file_name(), asked.as_deref(), user)?;
        let shown = path.to_string_lossy();
        if written.iter().any(|before| before.path == shown) {
            return Err(bad_request(format!("two parts are for '{shown}'; the first was written")));
        }
        named = named.saturating_add(shown.len()).saturating_add(100);
        if named > MAX_NAMED {
            return Err(bad_request("too many files in one request"));
        }
        let content = field.inspect_ok(move |_| taken.given()).map_err(io::Error::other);
        write_file(&path, user, metadata, content).await?;
        written.push(Written::new(&path, metadata));
    }
    Ok(written)
}

fn part_path(name: Option<&str>, asked: Option<&Path>, user: &User) -> Result<PathBuf, HttpError> {
    match (asked, name.filter(|name| !name.is_empty())) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(name)) => place(name, user),
        (None, None) => Err(bad_request("a file part needs a file name when the query has no path")),
    }
}
