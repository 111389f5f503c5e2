//! Templates with what they cost.

use dormouse_guest_mem::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One template in the answer to `GET /dormouse/v1/templates`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateEntry {
    /// Its name.
    pub name: String,
    /// When it was built.
    pub created_at: Timestamp,
    /// Virtual CPUs of its sandboxes.
    pub vcpus: u32,
    /// Guest RAM of its sandboxes.
    pub ram: Bytes,
    /// Virtual size of their disk.
    pub disk: Bytes,
    /// Release of its kernel.
    pub kernel: String,
    /// The snapshot that its sandboxes start from.
    pub snapshot: String,
    /// Allocated bytes of the base disk.
    pub base_on_disk: Bytes,
    /// Bytes of the snapshot: memory, device state and overlay.
    pub snapshot_on_disk: Bytes,
}
