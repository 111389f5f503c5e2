//! The folder of packs.
//!
//! ```text
//! packs/ab/ID.pack      a pack whose id starts with ab; never changes
//! packs/staging/N.part  a pack that is being written; emptied when the folder is opened
//! ```

mod collect;
mod packs;
mod pins;
mod stage;

pub use collect::Collected;
pub use packs::{PackInfo, Packs};
pub use pins::Pins;
pub use stage::StagedPack;
