//! Version 1 of the manifest's body. Read for ever.

use std::collections::BTreeMap;

use dormouse_guest_mem::Bytes;
use serde::Deserialize;

use super::body::{BaseDiskRef, DeviceStateRef, FileName, Introspection, Manifest, MemoryRef, OverlayRef};
use crate::digest::ImageRoot;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    snapshot: String,
    created: String,
    template: String,
    parent: Option<String>,
    machine: serde_json::Value,
    fingerprint: BTreeMap<String, String>,
    memory: Memory,
    device_state: DeviceStateRef,
    overlay: OverlayRef,
    base_disk: BaseDisk,
    introspection: Introspection,
    report: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    file: FileName,
    len: Bytes,
    root: ImageRoot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseDisk {
    artifact: String,
    len: Bytes,
}

impl From<Body> for Manifest {
    fn from(old: Body) -> Self {
        let Memory { file, len, root } = old.memory;
        let BaseDisk { artifact, len: disk_len } = old.base_disk;
        Self {
            snapshot: old.snapshot,
            created: old.created,
            template: old.template,
            parent: old.parent,
            machine: old.machine,
            fingerprint: old.fingerprint,
            memory: MemoryRef { file, len, root, ram: None, packs: Vec::new() },
            device_state: old.device_state,
            overlay: old.overlay,
            base_disk: BaseDiskRef { artifact, len: disk_len, index: None },
            introspection: old.introspection,
            report: old.report,
        }
    }
}
