//! The VMM's opaque device state as a compressed, checked file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use dormouse_image::Digest;

use super::Stored;

/// Large enough for any machine we configure (measured: 0.2 MiB), small enough to not fill a disk.
const MAX_RAW: u64 = 256 << 20;
const LEVEL: i32 = 3;

/// A compressed device state on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) len: u64,
    pub(super) raw_len: u64,
    /// Of the compressed bytes.
    pub(super) hash: Digest,
}

/// Compresses `raw` into `packed`.
pub(super) fn pack(raw: &Path, packed: &Path) -> io::Result<Packed> {
    let raw = std::fs::read(raw)?;
    let bytes = zstd::bulk::compress(&raw, LEVEL)?;
    let mut file = File::options().write(true).create_new(true).open(packed)?;
    file.write_all(&bytes)?;
    Ok(Packed { len: bytes.len() as u64, raw_len: raw.len() as u64, hash: Digest::of(&bytes) })
}

/// Writes the device state of `packed` to `raw`, after checking that it is the one that was packed.
pub(super) fn unpack(packed: &Path, expected: &Packed, raw: &Path) -> io::Result<()> {
    let plain = read(packed, expected)?;
    File::options().write(true).create_new(true).open(raw)?.write_all(&plain)
}

/// Checks the device state of a snapshot as [`unpack`] does.
pub(crate) fn check(stored: &Stored) -> io::Result<()> {
    read(&stored.device_state_file(), &stored.packed_device_state()).map(drop)
}

fn read(packed: &Path, expected: &Packed) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the device state {what}"));
    if expected.raw_len > MAX_RAW {
        return Err(wrong("is larger than any that dormouse writes"));
    }
    let mut bytes = Vec::new();
    File::open(packed)?.take(MAX_RAW).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != expected.len || Digest::of(&bytes) != expected.hash {
        return Err(wrong("is damaged (its checksum differs)"));
    }
    let size = usize::try_from(expected.raw_len).map_err(io::Error::other)?;
    let plain = zstd::bulk::decompress(&bytes, size)?;
    if plain.len() != size {
        return Err(wrong("has another length than when it was saved"));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_cut_is_refused_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [raw, packed, out] = ["raw", "packed", "out"].map(|n| dir.path().join(n));
        std::fs::write(&raw, b"device state ".repeat(1000)).unwrap();
        let info = pack(&raw, &packed).unwrap();
        let good = std::fs::read(&packed).unwrap();

        let mut bad = good.clone();
        bad[good.len() / 2] ^= 4;
        for damaged in [&bad[..], &good[..good.len() - 1]] {
            std::fs::write(&packed, damaged).unwrap();
            assert!(unpack(&packed, &info, &out).is_err());
            assert!(!out.exists());
        }
        std::fs::write(&packed, &good).unwrap();
        unpack(&packed, &info, &out).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&raw).unwrap());
    }

    #[test]
    fn a_length_that_lies_is_refused_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [raw, packed, out] = ["raw", "packed", "out"].map(|n| dir.path().join(n));
        std::fs::write(&raw, vec![0; 100_000]).unwrap();
        let info = pack(&raw, &packed).unwrap();
        for (raw_len, reason) in [(MAX_RAW + 1, "larger than any"), (99_999, ""), (100_001, "another length")] {
            let error = unpack(&packed, &Packed { raw_len, ..info.clone() }, &out).unwrap_err();
            assert!(error.to_string().contains(reason), "{raw_len}: {error}");
            assert!(!out.exists());
        }
    }
}
