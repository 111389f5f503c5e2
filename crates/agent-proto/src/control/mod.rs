//! JSON bodies of the control routes, shared by host and agent. No I/O.

mod init;
mod prepare;

pub use init::{InitRequest, MAX_ENTROPY_BYTES, MAX_VOLUMES, VolumeMount};
pub use prepare::{CachePolicy, ConnectionPolicy, PrepareReport, PrepareRequest, StepOutcome, StepReport};

/// TCP port of the agent.
pub const AGENT_PORT: u16 = 49983;

/// Version that the agent reports in `X-Envd-Version`: the level of the E2B in-guest API that it follows.
pub const ENVD_VERSION: &str = "0.6.13";
