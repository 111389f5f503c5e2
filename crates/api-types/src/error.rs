//! The error body.

use serde::{Deserialize, Serialize};

/// Body of every answer that is no success. SDKs parse it as JSON whenever the status says error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The HTTP status again.
    pub code: u16,
    /// What is wrong and, where possible, what to do.
    pub message: String,
}
