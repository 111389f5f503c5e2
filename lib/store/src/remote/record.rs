//! What a snapshot on the remote consists of, as an object.

use std::collections::BTreeSet;

use dormouse_guest_mem::Bytes;
use dormouse_image::Digest;
use dormouse_image::manifest::FileName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{PackId, SnapshotName};

const FORMAT: &str = "dormouse-remote-snapshot";
const VERSION: u64 = 1;
/// The longest record: bounds what is read into memory.
pub(super) const MAX_LEN: u64 = 8 << 20;

/// What a snapshot on the remote consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSnapshot {
    /// Its name.
    pub snapshot: SnapshotName,
    /// The folder of its files: the hash of its manifest.
    pub generation: Digest,
    /// Its files, the manifest last.
    pub files: Vec<RemoteFile>,
    /// The packs that it needs.
    pub packs: BTreeSet<PackId>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteFile {
    /// Its name, here and there.
    pub name: FileName,
    /// What the object holds.
    pub encoding: Encoding,
    /// Length of the file.
    pub len: Bytes,
    /// Length of the object.
    pub stored: Bytes,
    /// Hash of the object.
    pub blake3: Digest,
}

/// How a file became an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The object is the file.
    Plain,
    /// The object is what is not a hole, compressed.
    Sparse,
}

#[derive(Deserialize)]
struct Probe {
    format: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: String,
    version: u64,
    checksum: Digest,
    body: Box<RawValue>,
}

impl RemoteSnapshot {
    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let body = RawValue::from_string(serde_json::to_string(self)?)?;
        let checksum = Digest::of(body.get().as_bytes());
        serde_json::to_vec(&Envelope { format: FORMAT.to_owned(), version: VERSION, checksum, body })
    }

    /// Reads a record that is said to be that of `name`. On failure, what is wrong with it.
    pub(super) fn decode(bytes: &[u8], name: &SnapshotName) -> Result<Self, String> {
        let probe: Probe = serde_json::from_slice(bytes).map_err(|error| format!("it is no record: {error}"))?;
        if probe.format != FORMAT || probe.version == 0 {
            return Err("it is no record of a snapshot".into());
        }
        if probe.version > VERSION {
            return Err(format!("it is of version {}, newer than {VERSION}: upgrade dormouse", probe.version));
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if Digest::of(envelope.body.get().as_bytes()) != envelope.checksum {
            return Err("it does not match its checksum".into());
        }
        let record: Self = serde_json::from_str(envelope.body.get()).map_err(|error| error.to_string())?;
        if record.snapshot != *name {
            return Err(format!("it is that of snapshot {}", record.snapshot));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RemoteSnapshot {
        RemoteSnapshot {
            snapshot: SnapshotName::try_from("s").unwrap(),
            generation: Digest::of(b"manifest"),
            files: vec![RemoteFile {
                name: FileName::try_from("overlay.ext4").unwrap(),
                encoding: Encoding::Sparse,
                len: Bytes(1 << 30),
                stored: Bytes(100),
                blake3: Digest::of(b"object"),
            }],
            packs: [PackId(Digest::of(b"pack"))].into(),
        }
    }

    #[test]
    fn every_changed_byte_of_a_record_is_noticed() {
        let bytes = record().encode().unwrap();
        assert_eq!(RemoteSnapshot::decode(&bytes, &record().snapshot), Ok(record()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(RemoteSnapshot::decode(&bad, &record().snapshot).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_record_of_another_snapshot_or_a_later_version_is_refused() {
        let bytes = record().encode().unwrap();
        let error = RemoteSnapshot::decode(&bytes, &SnapshotName::try_from("t").unwrap()).unwrap_err();
        assert!(error.contains("snapshot s"), "{error}");
        let later = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2,\"new\":0");
        let error = RemoteSnapshot::decode(later.as_bytes(), &record().snapshot).unwrap_err();
        assert!(error.contains("upgrade"), "{error}");
    }
}
