//! Handlers, by topic.

pub(crate) mod build;
pub(crate) mod control;
pub(crate) mod create;
pub(crate) mod health;
pub(crate) mod list;
pub(crate) mod metadata_filter;
pub(crate) mod ndjson;
pub(crate) mod own;
pub(crate) mod snapshots;
pub(crate) mod store;
pub(crate) mod template_id;
pub(crate) mod templates;

use std::time::Duration;

use dormouse_lifecycle::SandboxId;

use super::failure::{Answer, Failure};

/// The longest time that a sandbox may be given: a year. Keeps sums of times in range.
const MAX_TIMEOUT: u32 = 366 * 24 * 3600;

/// An id from a path. What cannot be an id names no sandbox.
fn sandbox_id(text: &str) -> Answer<SandboxId> {
    text.parse().map_err(|e| Failure::not_found(format!("no such sandbox: {e}")))
}

/// Seconds as a duration.
fn seconds(timeout: u32) -> Answer<Duration> {
    if timeout > MAX_TIMEOUT {
        return Err(Failure::bad_request(format!("a timeout is at most {MAX_TIMEOUT} seconds")));
    }
    Ok(Duration::from_secs(timeout.into()))
}
