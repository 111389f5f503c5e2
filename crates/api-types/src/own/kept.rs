//! Kept snapshots with what E2B's shape leaves out.

use dormouse_guest_mem::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One snapshot in the answer to `GET /dormouse/v1/snapshots`, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotEntry {
    /// Its id.
    pub id: String,
    /// The name that its creator gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The sandbox that it was taken of.
    pub sandbox: String,
    /// The template that this sandbox came from.
    pub template: String,
    /// When it was taken.
    pub created_at: Timestamp,
    /// What it takes on disk.
    pub on_disk: Bytes,
}
