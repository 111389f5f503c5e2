//! The life of sandboxes: creating, pausing, resuming, forking, recovering after a crash.
//!
//! ```text
//!              ┌────────── create / fork ──────────┐
//!              ▼                                   │
//!          Creating ──▶ Running ──▶ Pausing ──▶ Paused ──▶ Resuming ──▶ Running
//!                          ▲            │          ▲           │
//!                          └── failed ──┘          └── failed ─┘
//!          Running, VM gone by itself ──▶ Lost ──▶ Resuming (from the last snapshot, if there is one)
//! ```
//!
//! Every sandbox has one owner task; nothing else changes its state ([`sandbox`]). What a caller was told is
//! durable before it was told: the record of a sandbox and its snapshot are written, synced and renamed into place
//! ([`state`], `dormouse_image::publish`). A VM is a process of its own that outlives the daemon; [`Host::open`]
//! adopts it again.
#![forbid(unsafe_code)]

mod agent;
mod compaction;
mod error;
mod host;
mod ids;
mod kept;
mod limits;
mod model;
mod recovery;
mod sandbox;
mod secret;
mod snapshot;
mod start;
mod state;
mod steps;
mod storage;
mod template;
#[cfg(test)]
mod tests;

pub use dormouse_agent_proto::control::CachePolicy;
pub use dormouse_store::remote::{
    Credentials, RemoteError, RemoteLimits, RetryPolicy, S3Target, Target, TargetUrl, UploadState,
};
pub use dormouse_templates::{KernelLine, KernelSource, Progress as BuildProgress, Recipe, RootfsSource};
pub use error::{Error, Result};
pub(crate) use host::blocking;
pub use host::{Connected, Host, Options};
pub use ids::{BadId, SandboxId, SnapshotId, TemplateName};
pub use limits::Limits;
pub use model::{
    ClassRow, Comparison, Endpoint, Inspection, Introspection, MapRun, NewSandbox, OnTimeout, PauseOptions, Phase,
    RamMap, RemoteCopy, SandboxInfo, SnapshotInfo, StepReport, Stillness, TemplateInfo,
};
pub use recovery::Recovery;
pub use secret::Secret;
pub use snapshot::{RemoteFound, RemoteSetup};
pub use state::OpenError;
pub use storage::{
    DamagedObject, Garbage, Needed, ObjectKind, RamTotals, StoreStats, Unreadable, Verification, VerifyReport,
    VerifyWatch,
};
pub use template::{BuildRequest, Built};
