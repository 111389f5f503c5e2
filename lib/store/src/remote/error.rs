//! Why the remote did not give or take something.

use std::sync::Arc;
use std::time::Duration;

use crate::StoreError;

/// Why the remote did not give or take something. Nothing half-fetched is visible then, and no record on the remote names
/// what is not there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The remote does not have it.
    #[error("{key} is not on the remote {remote}")]
    Absent {
        /// The object's key.
        key: String,
        /// Where it was looked for.
        remote: String,
    },
    /// The remote did not answer, or not usably, for as long as it was worth trying.
    #[error("the remote {remote} failed for {key}: gave up after {attempts} attempts in {elapsed:.1?}; last: {last}")]
    Unavailable {
        /// The object's key.
        key: String,
        /// The remote.
        remote: String,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        elapsed: Duration,
        /// How the last attempt ended.
        last: String,
    },
    /// The remote will not do that, however often it is asked.
    #[error("the remote {remote} refuses {key}: {reason}")]
    Refused {
        /// The object's key.
        key: String,
        /// The remote.
        remote: String,
        /// What it said.
        reason: String,
    },
    /// What the remote has is not what it should be. It is never used; what does not need it is not affected.
    #[error("{key} on the remote {remote} is damaged: {reason}")]
    Damaged {
        /// The object's key.
        key: String,
        /// The remote.
        remote: String,
        /// What is wrong.
        reason: String,
    },
    /// The remote can not be used as it is described.
    #[error("the remote can not be used: {reason}")]
    Config {
        /// What is wrong with the description.
        reason: String,
    },
    /// Something on this machine failed.
    #[error(transparent)]
    Local(Arc<StoreError>),
    /// What was to be uploaded was removed meanwhile.
    #[error("snapshot {snapshot} was removed before it was uploaded")]
    Removed {
        /// Its name.
        snapshot: String,
    },
}

impl From<StoreError> for RemoteError {
    fn from(error: StoreError) -> Self {
        Self::Local(Arc::new(error))
    }
}
