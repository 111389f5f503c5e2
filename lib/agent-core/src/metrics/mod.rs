//! `GET /metrics`: what the machine and the agent do, in E2B's JSON or as Prometheus text.

mod agent;
mod e2b;
mod machine;
mod route;
mod text;

pub(crate) use route::{Metrics, metrics};
