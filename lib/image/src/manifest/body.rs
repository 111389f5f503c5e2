//! What a manifest says.

use std::collections::BTreeMap;

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ImageRoot, RamDigest};
use crate::pack::PackRef;

/// Everything that a resume needs to know about a snapshot. Fields that this version does not have are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Id of this snapshot. Opaque here: whoever uses it as a path must check it first.
    pub snapshot: String,
    /// When it was taken, RFC 3339. Opaque here.
    pub created: String,
    /// Name of the template that the sandbox was made from.
    pub template: String,
    /// The snapshot that the sandbox was resumed from. For people: nothing of it is needed to resume this one.
    pub parent: Option<String>,
    /// The virtual machine: vCPUs, RAM layout, disks and so on. Opaque here; the VMM decides what it accepts.
    pub machine: serde_json::Value,
    /// What the device state can be loaded by: VMM version, machine type, CPU features and so on, by name.
    pub fingerprint: BTreeMap<String, String>,
    /// The memory image.
    pub memory: MemoryRef,
    /// The VMM's device state.
    pub device_state: DeviceStateRef,
    /// The sandbox's writable disk.
    pub overlay: OverlayRef,
    /// The template's read-only disk, which is not part of the snapshot.
    pub base_disk: BaseDiskRef,
    /// How free pages were found.
    pub introspection: Introspection,
    /// Figures of the pause for people, with the unit in the name (`introspect_us`, `kept_bytes`). Nothing depends on them.
    pub report: BTreeMap<String, u64>,
}

/// The memory image of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRef {
    /// Its file, in the manifest's folder: the index of the image, or an image of version 1.
    pub file: FileName,
    /// Size of that file.
    pub len: Bytes,
    /// The image that the file must hold.
    pub root: ImageRoot,
    /// The RAM that the image restores; null for an image of version 1, which does not know it.
    pub ram: Option<RamDigest>,
    /// All packs that the image needs, ascending by id. What packs are needed at all is known from the manifests alone.
    pub packs: Vec<PackRef>,
}

/// The device state of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceStateRef {
    /// Its file, in the manifest's folder.
    pub file: FileName,
    /// Size of that file.
    pub len: Bytes,
    /// Size after decompression; a reader must not decompress more.
    pub raw_len: Bytes,
    /// Hash of the file's bytes as stored.
    pub blake3: Digest,
}

/// The writable disk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayRef {
    /// Its sparse file, in the manifest's folder.
    pub file: FileName,
    /// Size of the disk, which is the file's length.
    pub len: Bytes,
    /// Bytes that the file took on the file system when it was made. Informative.
    pub allocated: Bytes,
    /// Identity of its content, as [`build_with_content`](crate::DiskIndex::build_with_content) gives it; not known of a snapshot
    /// that was taken before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
}

/// The read-only disk under the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseDiskRef {
    /// Id of the template artifact. Opaque here.
    pub artifact: String,
    /// Size of the disk.
    pub len: Bytes,
    /// Identity of the disk's index, which stands for its content; null when the image does not refer to the disk.
    pub index: Option<Digest>,
}

/// How free pages were found at the pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// What the free set was made from.
    pub method: IntrospectionMethod,
    /// Why nothing better was possible.
    pub reason: Option<String>,
    /// The guest kernel's release, if it was found.
    pub kernel: Option<String>,
}

/// What the free set was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntrospectionMethod {
    /// The guest kernel's page structures.
    Pages,
    /// Nothing: only zero pages were left out.
    ZeroOnly,
}

/// The name of a file in the manifest's own folder: 1 to 100 of `A-Z a-z 0-9 - _ .`, not starting with a dot. So a
/// manifest from elsewhere can not point outside of its folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// The text is no [`FileName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file name in a manifest is 1 to 100 of A-Z, a-z, 0-9, '-', '_' and '.', and does not start with '.'")]
pub struct BadFileName;

impl FileName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for FileName {
    type Error = BadFileName;

    fn try_from(text: &str) -> Result<Self, BadFileName> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for FileName {
    type Error = BadFileName;

    fn try_from(text: String) -> Result<Self, BadFileName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let fits = (1..=100).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain);
        if fits { Ok(Self(text)) } else { Err(BadFileName) }
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}
