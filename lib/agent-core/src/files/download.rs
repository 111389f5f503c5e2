//! `GET /files`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::compress::compressed;
use super::disposition::disposition;
use super::encoding::{Coding, choose};
use super::open::Regular;
use super::{place, range, unix_now, unreadable, user};
use crate::access::{FileOperation, SignedQuery, files_allowed};
use crate::agent::Agent;
use crate::server::HttpError;

/// Piece of a file that is read at once.
const CHUNK: usize = 256 * 1024;

pub(crate) async fn download(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<SignedQuery>,
    mut request: Request,
) -> Result<Response, HttpError> {
    files_allowed(&agent.access, request.headers(), &query, FileOperation::Read, unix_now())?;
    let user = user(&agent, query.username.as_deref())?;
    let path = place(query.path.as_deref().unwrap_or(""), &user)?;
    let coding = choose(request.headers()).ok_or_else(|| {
        HttpError::new(
            StatusCode::NOT_ACCEPTABLE,
            "files are sent as they are or with gzip, and the request takes neither",
        )
    })?;
    let found = find(&path).await.map_err(|error| unreadable(&path, &error))?;
    range::simplify(request.headers_mut());
    if found.is_empty() {
        // No range is in it, and nothing is less than all of it.
        request.headers_mut().remove(header::RANGE);
    }
    let whole = request.method() == Method::GET && !request.headers().contains_key(header::RANGE);
    // By its descriptor, since by now the path may lead to a pipe.
    let file = ServeFile::new_with_mime(found.path(), &mime::APPLICATION_OCTET_STREAM).with_buf_chunk_size(CHUNK);
    let Ok(response) = file.oneshot(request).await;
    let mut response = response.map(Body::new);
    if coding == Coding::Gzip && whole && response.status() == StatusCode::OK {
        let file = found.read().map_err(|error| unreadable(&path, &error))?;
        compress(&mut response, file);
    }
    response.headers_mut().extend(about(&path));
    Ok(response.into_response())
}

async fn find(path: &Path) -> io::Result<Regular> {
    let path: PathBuf = path.to_owned();
    tokio::task::spawn_blocking(move || Regular::find(&path)).await.map_err(io::Error::other)?
}

fn compress(response: &mut Response, file: std::fs::File) {
    let headers = response.headers_mut();
    let length = headers.remove(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // The same content in other bytes.
    let weak =
        headers.get(header::ETAG).and_then(|tag| HeaderValue::try_from(format!("W/{}", tag.to_str().ok()?)).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
    *response.body_mut() = Body::from_stream(compressed(file, length.unwrap_or(u64::MAX)));
}

/// Headers of every answer about a file.
fn about(path: &Path) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_DISPOSITION, disposition(path));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}
