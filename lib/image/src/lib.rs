//! What a paused guest becomes on disk: the *memory image* (what every page of RAM is, and where its bytes are) and the
//! *manifest* that ties it to the rest of a snapshot.
//!
//! - [`account`] finds out what each page of the paused RAM is, [`Accounting::store`] writes what is nowhere yet into a
//!   *pack*, and the *image index* that says where every page comes from.
//! - [`Image`] opens an index, and gives out no byte that fails its check. Images of version 1 are read for ever.
//! - [`compact`] rewrites packs so that the cost of a resume does not grow with the number of generations.
//! - [`DiskIndex`] finds pages on disks; [`PackSource`] is where packs come from.
//! - [`manifest::Manifest`] is the JSON file that names all parts of a snapshot (`docs/formats/manifest.md`).
//! - [`publish::Staging`] makes a whole folder durable and visible in one step.
//!
//! The byte layouts are in `docs/formats/image.md`. Everything is synchronous and blocks on file I/O and CPU.
#![forbid(unsafe_code)]

mod capture;
mod codec;
mod compact;
mod digest;
mod disk;
mod disk_index;
mod error;
mod image;
pub mod manifest;
mod output;
mod pack;
mod page_hash;
mod page_kind;
mod progress;
pub mod publish;
mod ram;
mod summary;
#[cfg(feature = "testing")]
pub mod testing;
mod v1;

pub use capture::{Accounting, Capture, PageCounts, Parent, StoreOptions, Stored, account};
pub use codec::Codec;
pub use compact::{CompactionPolicy, compact, packs_to_compact};
pub use digest::{BadDigest, Digest, ImageRoot, PackId, RamDigest};
pub use disk::{Disk, DiskContent, DiskSlot};
pub use disk_index::{DiskIndex, DiskIndexError};
pub use error::{Damage, MaterialiseError, PackDamage, ReadError, WriteError};
pub use image::{Image, PageReader, ReadCost};
pub use pack::{DirPacks, MAX_FRAME_PAGES, PackRef, PackSource, PackUnavailable, SealedPack, check_pack};
pub use page_kind::{PageKind, Run};
pub use progress::Progress;
pub use summary::{ImageSummary, KindCounts};
pub use v1::ImageReader;
