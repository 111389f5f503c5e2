//! `GET /files`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::{place, unix_now, user};
use crate::access::{FileOperation, SignedQuery, files_allowed};
use crate::agent::Agent;
use crate::server::HttpError;

/// Piece of a file that is read at once.
const CHUNK: usize = 256 * 1024;

pub(crate) async fn download(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<SignedQuery>,
    request: Request,
) -> Result<Response, HttpError> {
    files_allowed(&agent.access, request.headers(), &query, FileOperation::Read, unix_now())?;
    let user = user(&agent, query.username.as_deref())?;
    let path = place(query.path.as_deref().unwrap_or(""), &user)?;
    let meta = tokio::fs::metadata(&path).await.map_err(|error| unreadable(&path, &error))?;
    // Devices and pipes would block, or never end.
    if !meta.is_file() {
        return Err(HttpError::new(
            StatusCode::BAD_REQUEST,
            format!("path '{}' is not a regular file", path.display()),
        ));
    }
    let file = ServeFile::new_with_mime(&path, &mime::APPLICATION_OCTET_STREAM).with_buf_chunk_size(CHUNK);
    let Ok(mut response) = file.oneshot(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_DISPOSITION, disposition(&path));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response.map(Body::new).into_response())
}

fn unreadable(path: &Path, error: &io::Error) -> HttpError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            HttpError::new(StatusCode::NOT_FOUND, format!("path '{path}' does not exist"))
        }
        _ => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read '{path}': {error}")),
    }
}

/// The file's name as a quoted string; what cannot stand in one becomes `_`.
fn disposition(path: &Path) -> HeaderValue {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain: String =
        name.chars().map(|c| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '_' }).collect();
    HeaderValue::try_from(format!("inline; filename=\"{plain}\"")).unwrap_or(HeaderValue::from_static("inline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_file_name_cannot_break_out_of_the_header() {
        assert_eq!(disposition(Path::new("/a/b.txt")), "inline; filename=\"b.txt\"");
        assert_eq!(disposition(Path::new("/a\"b\r\nX: 1ü")), "inline; filename=\"a_b__X: 1_\"");
    }
}
