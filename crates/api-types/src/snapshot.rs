//! Snapshots that callers keep, as E2B shows them.

use serde::{Deserialize, Serialize};

/// Body of `POST /sandboxes/{id}/snapshots`. May be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSnapshot {
    /// A name under which the newest snapshot that got it can be used like a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `false` asks for a snapshot of the disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// One snapshot. Its id takes the place of a template's in a create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    #[serde(rename = "snapshotID")]
    pub snapshot_id: String,
    /// Its names; none or one.
    pub names: Vec<String>,
}
