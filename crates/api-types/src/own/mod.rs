//! What only dormouse has, under `/dormouse/v1`. Sizes are bytes, named so.

mod build;
mod kept;
mod sandbox;
mod snapshot;
mod store;
mod template;

pub use build::{BuildEvent, BuildRequest, Kernel, Root};
pub use kept::SnapshotEntry;
pub use sandbox::{CachePolicy, Connected, PauseExtra, Phase, SandboxEntry};
pub use snapshot::{ClassRow, Comparison, Inspection, Introspection, MapRun, RamMap, RemoteCopy, Step, UploadState};
pub use store::{
    AbsentPack, CollectRequest, DamagedObject, Garbage, Needed, ObjectKind, RamTotals, StoreStats, Unreadable,
    VerifyEvent, VerifyReport, VerifyRequest,
};
pub use template::TemplateEntry;
