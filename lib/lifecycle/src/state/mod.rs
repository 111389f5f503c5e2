//! The state folder: where everything durable lies. Its format is described in `docs/formats/state-folder.md`.
//!
//! ```text
//! VERSION                      format of this folder
//! lock                         held by the one daemon that works on it
//! artifacts/                   kernels, initramfs images, disks; content-addressed, made by dormouse-templates
//! templates/NAME.json          a template: its artifacts and its snapshot
//! snapshots/ID/                manifest.json, memory.idx (memory.img in version 1), device.state.zst, overlay.ext4
//! packs/                       page data of all memory images, content-addressed; made by dormouse-store
//! disk-indexes/HASH.index      where pages may be found on a base disk
//! kept/ID.json                 the record of a snapshot that callers keep
//! sandboxes/ID.json            the record of a sandbox
//! run/ID/                      a living VM: sockets, overlay disk, RAM file and index of the image it was started from
//! cache/ROOT.ram               RAM files unpacked from memory images; emptied at start
//! staging/                     half-written things; emptied at start
//! ```

mod durable;
mod folder;
mod record;

pub(crate) use durable::{read_json, remove_file, sync_dir, write_json};
pub use folder::OpenError;
pub(crate) use folder::StateFolder;
pub(crate) use record::{DurablePhase, Machine, SandboxRecord, SnapshotRecord, TemplateRecord};
