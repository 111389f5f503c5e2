//! Sandboxes with what E2B's shapes leave out.

use std::collections::BTreeMap;

use dormouse_guest_mem::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::OnTimeout;

/// One sandbox in the answer to `GET /dormouse/v1/sandboxes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxEntry {
    /// Its id.
    pub id: String,
    /// The template that it came from.
    pub template: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it is lost, or why the last pause or resume failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was first started.
    pub started_at: Timestamp,
    /// When its time is up, or was to be.
    pub end_at: Timestamp,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// The creator's labels.
    pub metadata: BTreeMap<String, String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest RAM.
    pub ram: Bytes,
    /// Virtual size of the disk.
    pub disk: Bytes,
    /// The newest durable snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What that snapshot costs on disk, when it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<Bytes>,
}

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being started.
    Creating,
    /// It runs.
    Running,
    /// Being written to disk.
    Pausing,
    /// It costs disk only.
    Paused,
    /// Being brought back.
    Resuming,
    /// Its VM ended without a pause.
    Lost,
}

/// What becomes of the guest's page cache in a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    /// It stays, and is warm after a resume.
    #[default]
    Keep,
    /// It is given up, and costs nothing.
    Drop,
}

/// Fields that dormouse adds to the body of a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseExtra {
    /// What becomes of the page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePolicy>,
    /// Also count what other methods would keep. Makes the pause slower.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub measure: bool,
}

/// What a connect found, by its status: 200 or 201.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// It ran already; its time was at most extended.
    WasRunning,
    /// It was paused and runs again.
    Resumed,
}
