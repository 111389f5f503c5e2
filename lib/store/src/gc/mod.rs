//! Which packs are needed: reference counts, rebuilt from the manifests that the caller read, and the plan of a collection.

mod plan;
mod references;

pub use plan::{Plan, plan};
pub use references::References;
