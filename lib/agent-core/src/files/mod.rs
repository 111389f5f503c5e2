//! `/files`: whole files in and out, streamed.

mod compose;
mod compress;
mod disposition;
mod download;
mod encoding;
mod gunzip;
pub(crate) mod metadata;
mod multipart;
mod open;
mod range;
#[cfg(feature = "testing")]
mod testing;
mod upload;
pub(crate) mod write;
mod written;

pub(crate) use compose::compose;
pub(crate) use download::download;
#[cfg(feature = "testing")]
pub(crate) use testing::{read_headers, read_parts};
pub(crate) use upload::upload;

use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;

use crate::agent::Agent;
use crate::identity::{IdentityError, User, resolve};
use crate::server::HttpError;

fn bad_request(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, message)
}

/// The user that a request names, or the default one.
fn user(agent: &Agent, username: Option<&str>) -> Result<User, HttpError> {
    let name = username.filter(|name| !name.is_empty()).map_or_else(|| agent.settings.default_user(), str::to_owned);
    agent.users.lookup(&name).map_err(|error| match error {
        IdentityError::UnknownUser { .. } => HttpError::new(StatusCode::UNAUTHORIZED, error.to_string()),
        IdentityError::Unreadable { .. } => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })
}

/// Where `path` lies for `user`.
fn place(path: &str, user: &User) -> Result<PathBuf, HttpError> {
    resolve(path, &user.home, &user.home).map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Why the file at `path` is not read.
fn unreadable(path: &Path, error: &io::Error) -> HttpError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            HttpError::new(StatusCode::NOT_FOUND, format!("path '{path}' does not exist"))
        }
        io::ErrorKind::InvalidInput => {
            HttpError::new(StatusCode::BAD_REQUEST, format!("path '{path}' is not a regular file"))
        }
        io::ErrorKind::InvalidFilename => {
            HttpError::new(StatusCode::BAD_REQUEST, format!("cannot read '{path}': {error}"))
        }
        _ if open::is_link_loop(error) => {
            HttpError::new(StatusCode::BAD_REQUEST, format!("cannot read '{path}': {error}"))
        }
        _ => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read '{path}': {error}")),
    }
}

/// Unix time in seconds, for expiring signatures.
fn unix_now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
