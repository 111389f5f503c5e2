//! `POST /files/compose`: one file of several.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::metadata::{self, Metadata};
use super::open::Regular;
use super::write::{cannot_write, create};
use super::written::Written;
use super::{bad_request, place, unreadable, user};
use crate::agent::Agent;
use crate::server::HttpError;

/// Most parts of one file.
const MAX_PARTS: usize = 1000;

#[derive(Debug, Deserialize)]
struct ComposeRequest {
    source_paths: Vec<String>,
    destination: String,
    username: Option<String>,
}

/// Writes the sources one after the other to the destination, and removes them when that is whole.
pub(crate) async fn compose(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, HttpError> {
    let request: ComposeRequest = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("body is not a compose request: {error}")))?;
    let user = user(&agent, request.username.as_deref())?;
    let destination = place(&request.destination, &user)?;
    let sources = request.source_paths.iter().map(|path| place(path, &user)).collect::<Result<Vec<_>, _>>()?;
    if sources.is_empty() || sources.len() > MAX_PARTS {
        return Err(bad_request(format!("a file is composed of 1 to {MAX_PARTS} others")));
    }
    let written = Written::new(&destination, &Metadata::new());
    let joined = tokio::task::spawn_blocking(move || join(&sources, &destination, (user.uid, user.gid))).await;
    joined.map_err(|error| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??;
    Ok(Json(written).into_response())
}

fn join(sources: &[PathBuf], destination: &Path, owner: (u32, u32)) -> Result<(), HttpError> {
    // All are there before anything is changed.
    let found: Vec<_> = sources.iter().map(|path| find(path, destination)).collect::<Result<_, _>>()?;
    let failed = |error: io::Error| cannot_write(destination, &error);
    let (mut file, unfinished) = create(destination, owner).map_err(failed)?;
    metadata::replace(&file, &Metadata::new()).map_err(failed)?;
    for (source, path) in found.into_iter().zip(sources) {
        let mut source: File = source.read().map_err(|error| unreadable(path, &error))?;
        // The kernel copies where it can.
        io::copy(&mut source, &mut file).map_err(failed)?;
    }
    if let Some(unfinished) = unfinished {
        unfinished.keep();
    }
    for path in sources {
        // One that is named twice is gone the second time.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn find(path: &Path, destination: &Path) -> Result<Regular, HttpError> {
    let found = Regular::find(path).map_err(|error| unreadable(path, &error))?;
    if Regular::find(destination).is_ok_and(|other| found.is(&other)) {
        return Err(bad_request(format!("'{}' is a source and the destination", path.display())));
    }
    Ok(found)
}
