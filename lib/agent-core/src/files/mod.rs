//! `/files`: whole files in and out, streamed.

mod compress;
mod disposition;
mod download;
mod encoding;
mod gunzip;
pub(crate) mod metadata;
mod multipart;
mod open;
mod upload;
pub(crate) mod write;

pub(crate) use download::download;
pub(crate) use upload::upload;

use std::path::PathBuf;

use http::StatusCode;

use crate::agent::Agent;
use crate::identity::{IdentityError, User, resolve};
use crate::server::HttpError;

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

/// Unix time in seconds, for expiring signatures.
fn unix_now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
