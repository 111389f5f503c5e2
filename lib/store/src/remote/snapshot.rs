//! A snapshot on this machine, as it goes up.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_guest_mem::Bytes;
use dormouse_image::Digest;
use dormouse_image::manifest::{self, FileName, Manifest};
use rustix::fs::{Mode, OFlags, openat};

use super::big::Source;
use super::record::{Encoding, RemoteFile};
use super::sparse;
use crate::{BadSnapshotName, PackId, Packs, SnapshotName, StagedPack, StoreError, room};

/// A published snapshot on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// Its folder.
    pub dir: PathBuf,
    /// The files in the folder that belong to it, without the manifest.
    pub files: Vec<FileName>,
    /// The packs that its manifest names.
    pub packs: BTreeSet<PackId>,
}

/// The files of a snapshot, open: they can be read to the end even if the snapshot is removed.
pub(super) struct Opened {
    pub(super) files: Vec<(FileName, File)>,
    /// Hash of the manifest.
    pub(super) generation: Digest,
}

impl LocalSnapshot {
    /// The snapshot in the folder `dir` whose manifest is `manifest`.
    ///
    /// # Errors
    /// Its id can not name anything.
    pub fn of(dir: PathBuf, manifest: &Manifest) -> Result<Self, BadSnapshotName> {
        let files = [&manifest.memory.file, &manifest.device_state.file, &manifest.overlay.file];
        Ok(Self {
            name: manifest.snapshot.as_str().try_into()?,
            dir,
            files: files.map(Clone::clone).into(),
            packs: manifest.memory.packs.iter().map(|pack| pack.id).collect(),
        })
    }

    /// Hash of the manifest as it is now; None when the snapshot is gone.
    pub(super) fn generation(&self) -> Result<Option<Digest>, StoreError> {
        let path = self.dir.join(manifest::FILE_NAME);
        match File::open(&path).and_then(|mut file| digest(&mut file)) {
            Ok(generation) => Ok(Some(generation)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, "read")(error)),
        }
    }

    /// Opens all files, the manifest last; None when the snapshot is gone. All are those of one folder even if another one
    /// takes its place meanwhile.
    pub(super) fn open(&self) -> Result<Option<Opened>, StoreError> {
        let dir = match File::open(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io(&self.dir, "opened"))?,
        };
        let in_dir = |name: &str| -> io::Result<File> {
            Ok(openat(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?.into())
        };
        let path = self.dir.join(manifest::FILE_NAME);
        let failed = |path: &Path, error| Err(StoreError::io(path, "opened")(error));
        let mut manifest = match in_dir(manifest::FILE_NAME) {
            Ok(file) => file,
            // The manifest goes first when a snapshot is removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return failed(&path, error),
        };
        let generation = digest(&mut manifest).map_err(StoreError::io(&path, "read"))?;
        let mut files = Vec::new();
        for name in &self.files {
            match in_dir(name.as_str()) {
                Ok(file) => files.push((name.clone(), file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => return Ok(None),
                Err(error) => return failed(&self.dir.join(name.as_str()), error),
            }
        }
        let name = FileName::try_from(manifest::FILE_NAME)
            .map_err(|error| StoreError::io(&path, "named")(io::Error::other(error)))?;
        files.push((name, manifest));
        Ok(Some(Opened { files, generation }))
    }
}

/// A file made ready to go up. What it is made of lies in the folder of packs and is removed when this is dropped.
pub(super) struct Prepared {
    pub(super) file: RemoteFile,
    pub(super) source: Source,
    _spool: Option<StagedPack>,
}

/// Hashes a file and leaves its holes out, where it has some.
pub(super) fn prepare(packs: &Packs, name: FileName, mut file: File) -> Result<Prepared, StoreError> {
    let at = packs.root().join(name.as_str());
    let failed = |error| room::failed(&at, "prepared for upload", file_len(&file), error);
    let len = file.metadata().map_err(failed)?.len();
    if !sparse::has_holes(&file).map_err(failed)? {
        let blake3 = digest(&mut file).map_err(StoreError::io(&at, "read"))?;
        let whole = RemoteFile { name, encoding: Encoding::Plain, len: Bytes(len), stored: Bytes(len), blake3 };
        return Ok(Prepared { file: whole, source: Source { file: Arc::new(file), len }, _spool: None });
    }
    let spool = packs.stage()?;
    let mut writer = Hashing { out: io::BufWriter::with_capacity(1 << 20, spool.file()), hash: blake3::Hasher::new() };
    let encoded = sparse::encode(&file, &mut writer).and_then(|()| writer.out.flush());
    encoded.map_err(|error| room::failed(spool.path(), "written", file_len(&file), error))?;
    let blake3 = Digest(*writer.hash.finalize().as_bytes());
    drop(writer);
    let object = spool.file().try_clone().map_err(StoreError::io(spool.path(), "opened"))?;
    let stored = object.metadata().map_err(StoreError::io(spool.path(), "examined"))?.len();
    let sparse = RemoteFile { name, encoding: Encoding::Sparse, len: Bytes(len), stored: Bytes(stored), blake3 };
    let source = Source { file: Arc::new(object), len: stored };
    Ok(Prepared { file: sparse, source, _spool: Some(spool) })
}

fn file_len(file: &File) -> u64 {
    file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512))
}

/// Hash of a whole file.
pub(super) fn digest(file: &mut File) -> io::Result<Digest> {
    file.rewind()?;
    let mut hash = blake3::Hasher::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buf)?;
        match buf.get(..n) {
            Some(read) if n > 0 => hash.update(read),
            _ => return Ok(Digest(*hash.finalize().as_bytes())),
        };
    }
}

struct Hashing<W> {
    out: W,
    hash: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        if let Some(written) = bytes.get(..n) {
            self.hash.update(written);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_described_by_its_manifest() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../image/tests/fixtures/v1"));
        let mut manifest = Manifest::read(dir).unwrap();
        let id = PackId(Digest::of(b"pack"));
        manifest.memory.packs = vec![dormouse_image::PackRef { id, len: Bytes(4) }];
        let snapshot = LocalSnapshot::of(dir.to_owned(), &manifest).unwrap();
        assert_eq!(snapshot.name.as_str(), manifest.snapshot);
        assert_eq!(snapshot.packs, [id].into());
        assert!(snapshot.files.contains(&manifest.memory.file) && snapshot.files.contains(&manifest.overlay.file));
        manifest.snapshot = "../elsewhere".to_owned();
        assert!(LocalSnapshot::of(dir.to_owned(), &manifest).is_err());
    }
}
