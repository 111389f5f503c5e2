//! The manifest as a file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Manifest, ManifestError, v1};
use crate::digest::Digest;
use crate::publish;

/// Name of the manifest in a snapshot's folder.
pub const FILE_NAME: &str = "manifest.json";
/// The version that this crate writes, and the newest that it reads.
pub const VERSION: u64 = 2;
/// The largest manifest, in bytes: bounds what a hostile file makes us allocate.
pub const MAX_LEN: u64 = 1 << 20;

const FORMAT: &str = "dormouse-manifest";

/// What every version has. Nothing else is looked at before the version is known to be ours.
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

impl Manifest {
    /// Reads the manifest in the folder `dir`. The files that it names are not looked at.
    ///
    /// # Errors
    /// [`ManifestError`], naming the file and what is wrong.
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE_NAME);
        let bytes = read_bounded(&path)?;
        let malformed = |source| ManifestError::Malformed { path: path.clone(), source };
        let probe: Probe = serde_json::from_slice(&bytes).map_err(|source| match source.classify() {
            serde_json::error::Category::Data => ManifestError::NotAManifest { path: path.clone() },
            _ => malformed(source),
        })?;
        if probe.format != FORMAT || probe.version == 0 {
            return Err(ManifestError::NotAManifest { path });
        }
        if probe.version > VERSION {
            return Err(ManifestError::Newer { path, version: probe.version });
        }
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(malformed)?;
        if Digest::of(envelope.body.get().as_bytes()) != envelope.checksum {
            return Err(ManifestError::Checksum { path });
        }
        let body = envelope.body.get();
        match envelope.version {
            1 => serde_json::from_str::<v1::Body>(body).map(Self::from),
            _ => serde_json::from_str(body),
        }
        .map_err(malformed)
    }

    /// Writes the manifest into the folder `dir`, durably and in one step: a reader finds all of it or none. To be called
    /// when everything that it names is complete. Replaces a manifest that is there already.
    ///
    /// # Errors
    /// [`ManifestError`]; an earlier manifest is then still there.
    pub fn write_into(&self, dir: &Path) -> Result<(), ManifestError> {
        let path = dir.join(FILE_NAME);
        let bytes = self.encode().map_err(|source| ManifestError::Malformed { path: path.clone(), source })?;
        if bytes.len() as u64 > MAX_LEN {
            return Err(ManifestError::TooLarge { path });
        }
        let new = dir.join("manifest.json.new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        });
        written.map_err(|source| ManifestError::Io { path, source })?;
        Ok(publish::sync(dir)?)
    }

    /// Checks that the files named by the manifest are in `dir` with their lengths. Their content is checked when read.
    ///
    /// # Errors
    /// [`ManifestError`] for the first file that is missing, or too short or too long.
    pub fn check_files(&self, dir: &Path) -> Result<(), ManifestError> {
        let device = (&self.device_state.file, self.device_state.len);
        let overlay = (&self.overlay.file, self.overlay.len);
        for (file, expected) in [(&self.memory.file, self.memory.len), device, overlay] {
            let path = dir.join(file.as_str());
            let found = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() => meta.len(),
                Ok(_) => return Err(ManifestError::Io { path, source: io::ErrorKind::InvalidInput.into() }),
                Err(source) => return Err(ManifestError::Io { path, source }),
            };
            if found != expected.0 {
                return Err(ManifestError::FileLength { path, expected: expected.0, found });
            }
        }
        Ok(())
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let body = RawValue::from_string(serde_json::to_string_pretty(self)?)?;
        let checksum = Digest::of(body.get().as_bytes());
        let mut bytes =
            serde_json::to_vec_pretty(&Envelope { format: FORMAT.to_owned(), version: VERSION, checksum, body })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn read_bounded(path: &PathBuf) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes));
    read.map_err(|source| ManifestError::Io { path: path.clone(), source })?;
    if bytes.len() as u64 > MAX_LEN { Err(ManifestError::TooLarge { path: path.clone() }) } else { Ok(bytes) }
}
