//! What a paused guest becomes on disk: the *memory image* (which page of RAM was free, zero or data, and the data
//! compressed in frames that can be read independently) and the *manifest* that ties it to the rest of a snapshot.
//!
//! - [`write()`] makes an image in one pass over the paused RAM; [`ImageReader`] opens it, and gives out no byte that
//!   fails its check. The byte layout is in [`mod@format`] and in `docs/formats/image.md`.
//! - [`manifest::Manifest`] is the JSON file that names all parts of a snapshot (`docs/formats/manifest.md`).
//! - [`publish::Staging`] makes a whole folder durable and visible in one step.
//!
//! Everything is synchronous and blocks on file I/O and CPU.
#![forbid(unsafe_code)]

mod codec;
mod digest;
pub mod format;
pub mod manifest;
mod page_kind;
mod progress;
pub mod publish;
mod read;
mod summary;
#[cfg(feature = "testing")]
pub mod testing;
mod write;

pub use digest::{BadDigest, Digest, ImageRoot};
pub use page_kind::PageKind;
pub use progress::Progress;
pub use read::{Damage, ImageReader, MaterialiseError, ReadError, Run};
pub use summary::{ImageSummary, KindCounts};
pub use write::{Omit, WriteError, WriteOptions, write};
