//! Templates: what sandboxes start from. Building one boots its VM once and takes a snapshot.

mod build;
mod register;

pub(crate) use build::build;
pub use build::{BuildRequest, Built};
pub(crate) use register::{Templates, remove};
