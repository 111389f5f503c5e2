//! Keys: the hash of everything that a part is made from.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::AtPath;
use crate::{BuildError, Progress};

/// The hash of everything that a part is made from. Shown as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(blake3::Hash);

impl Key {
    /// 16 bytes of the key in the form of a UUID, for filesystems that want one.
    pub(crate) fn as_uuid(&self) -> String {
        let hex = self.0.to_hex();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// Collects what a part is made from. Every field is written with its length, so that no two lists look the same.
pub(crate) struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// `kind` names the part and the version of the way it is made: a new version makes every old key useless.
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.field(kind.as_bytes());
        hasher
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn number(&mut self, n: u64) {
        self.0.update(&n.to_le_bytes());
    }

    pub(crate) fn key(&mut self, key: &Key) {
        self.0.update(key.0.as_bytes());
    }

    /// The content of a regular file.
    pub(crate) fn file(&mut self, path: &Path, progress: &dyn Progress) -> Result<(), BuildError> {
        self.open_file(File::open(path).at(path)?, path, progress)
    }

    /// The content of an open file; `path` is for errors.
    pub(crate) fn open_file(&mut self, mut file: File, path: &Path, progress: &dyn Progress) -> Result<(), BuildError> {
        let mut content = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            progress.go_on()?;
            let n = file.read(&mut buffer).at(path)?;
            if n == 0 {
                break;
            }
            content.update(buffer.get(..n).unwrap_or_default());
        }
        self.0.update(content.finalize().as_bytes());
        Ok(())
    }

    pub(crate) fn finish(&self) -> Key {
        Key(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(fields: &[&str]) -> Key {
        let mut hasher = KeyHasher::new("test");
        fields.iter().for_each(|field| hasher.field(field.as_bytes()));
        hasher.finish()
    }

    #[test]
    fn moving_a_letter_from_one_field_to_the_next_changes_the_key() {
        assert_ne!(key_of(&["ab", "c"]), key_of(&["a", "bc"]));
        assert_ne!(key_of(&["a", ""]), key_of(&["a"]));
        assert_eq!(key_of(&["a", "b"]), key_of(&["a", "b"]));
    }

    #[test]
    fn a_key_serves_as_a_valid_uuid() {
        let uuid = key_of(&["x"]).as_uuid();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
