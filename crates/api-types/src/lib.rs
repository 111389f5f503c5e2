//! Bodies of the HTTP API, shared by server and clients.
//!
//! The crate root holds E2B's REST types (the shapes that the published SDKs e2b 2.45 to 2.63 send and accept);
//! [`own`] holds what only dormouse has. Field names on the wire are E2B's: camelCase with `ID` in capitals.
//!
//! Reading is lenient, since SDKs of other versions send more: unknown fields are ignored. Writing is exact: the
//! SDKs' generated clients fail on a missing required field, so those are never `Option` here.
#![forbid(unsafe_code)]

mod create;
mod error;
pub mod own;
mod requests;
mod sandbox;
mod snapshot;
mod template;

pub use create::{AutoResume, NewSandbox, NewSandboxV2, VolumeMount};
pub use error::ApiError;
pub use requests::{Connect, ConnectV2, Fork, Pause, Refresh, Resume, SetTimeout};
pub use sandbox::{ForkResult, Lifecycle, ListedSandbox, OnTimeout, Sandbox, SandboxDetail, SandboxState};
pub use snapshot::{NewSnapshot, Snapshot};
pub use template::{BuildStatus, Template};

/// The version of E2B's guest agent whose features ours has. SDKs switch features on by it; it must be a plain
/// three-part version, since they parse it by PEP 440 and by semantic versioning.
pub const ENVD_VERSION: &str = "0.6.13";

/// The port on which the agent listens in every sandbox.
pub const ENVD_PORT: u16 = 49983;
