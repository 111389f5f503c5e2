//! Files with holes, such as overlay disks, as objects without them.
//!
//! The object is one zstd frame. Decompressed it is a row of pieces:
//!
//! ```text
//! offset  u64, little-endian   where the piece lies; not before the end of the one before it
//! len     u64, little-endian   how long it is; 0 for the last one, whose offset is the length of the file
//! bytes   len bytes
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Read and written at once.
const BLOCK: usize = 1 << 20;
/// Quick: what is in an overlay disk is mostly new to the compressor anyway.
const LEVEL: i32 = 1;

/// Whether a file has holes worth leaving out.
pub(super) fn has_holes(file: &File) -> io::Result<bool> {
    let len = file.metadata()?.len();
    Ok(len > 0 && seek(file, SeekFrom::Hole(0))? < len)
}

/// Writes the object for `file` to `out`. The file must not change meanwhile.
pub(super) fn encode(file: &File, out: impl Write) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut out = zstd::Encoder::new(out, LEVEL)?;
    let mut buf = vec![0; BLOCK];
    let mut at = 0;
    while at < len {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(len);
        if start >= end {
            break;
        }
        piece(&mut out, start, end - start)?;
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
            let block = buf.get_mut(..want).ok_or(io::ErrorKind::InvalidInput)?;
            file.read_exact_at(block, at)?;
            out.write_all(block)?;
            at += want as u64;
        }
    }
    piece(&mut out, len, 0)?;
    out.finish()?.flush()
}

/// Makes an empty file what [`encode`] was given, which was `len` bytes long. Fails on anything else, also on what is well
/// made but longer.
pub(super) fn decode(object: impl Read, file: &File, len: u64) -> io::Result<()> {
    let mut object = zstd::Decoder::new(object)?.single_frame();
    let mut buf = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let (start, piece) = (number(&mut object)?, number(&mut object)?);
        let end = start.checked_add(piece).filter(|end| start >= at && *end <= len).ok_or_else(malformed)?;
        if piece == 0 {
            if start != len || object.read(&mut [0])? != 0 {
                return Err(malformed());
            }
            return file.set_len(len);
        }
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
            let block = buf.get_mut(..want).ok_or_else(malformed)?;
            object.read_exact(block)?;
            file.write_all_at(block, at)?;
            at += want as u64;
        }
    }
}

fn piece(out: &mut impl Write, offset: u64, len: u64) -> io::Result<()> {
    out.write_all(&offset.to_le_bytes())?;
    out.write_all(&len.to_le_bytes())
}

fn number(object: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    object.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the pieces of the file are out of order or past its end")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    fn encoded(file: &File) -> Vec<u8> {
        let mut out = Vec::new();
        encode(file, &mut out).unwrap();
        out
    }

    fn content(file: &File, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_with_holes_comes_back_as_it_was(
            len in 0..3_000_000u64, writes in prop::collection::vec((0..3_000_000u64, 1..200_000usize, any::<u8>()), 0..6)
        ) {
            let file = tempfile::tempfile().unwrap();
            file.set_len(len).unwrap();
            for (at, count, byte) in writes {
                let count = count.min(usize::try_from(len.saturating_sub(at)).unwrap());
                file.write_all_at(&vec![byte; count], at).unwrap();
            }
            let back = tempfile::tempfile().unwrap();
            decode(&encoded(&file)[..], &back, len).unwrap();
            prop_assert_eq!(back.metadata().unwrap().len(), len);
            prop_assert!(content(&back, len) == content(&file, len));
        }

        #[test]
        fn rubbish_is_an_error_and_no_file_longer_than_was_said(
            pieces in prop::collection::vec((0..100u64, 0..100u64, prop::collection::vec(any::<u8>(), 0..100)), 0..5)
        ) {
            let mut raw = Vec::new();
            for (offset, len, bytes) in pieces {
                piece(&mut raw, offset, len).unwrap();
                raw.extend(bytes);
            }
            let file = tempfile::tempfile().unwrap();
            let _ = decode(&zstd::encode_all(&raw[..], 1).unwrap()[..], &file, 50);
            prop_assert!(file.metadata().unwrap().len() <= 50);
        }
    }

    #[test]
    fn holes_cost_nothing_on_either_side() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"here", 1 << 39).unwrap();
        assert!(has_holes(&file).unwrap());
        let object = encoded(&file);
        assert!(object.len() < 500, "{}", object.len());
        let back = tempfile::tempfile().unwrap();
        decode(&object[..], &back, 1 << 40).unwrap();
        assert!(back.metadata().unwrap().blocks() * 512 < 1 << 20);
        let mut four = [0; 4];
        back.read_exact_at(&mut four, 1 << 39).unwrap();
        assert_eq!(&four, b"here");
    }

    #[test]
    fn a_file_of_no_bytes_has_no_holes() {
        assert!(!has_holes(&tempfile::tempfile().unwrap()).unwrap());
    }

    #[test]
    fn pieces_out_of_order_are_refused() {
        let decoded = |pieces: &[(u64, &[u8])]| {
            let mut raw = Vec::new();
            for (offset, bytes) in pieces {
                piece(&mut raw, *offset, bytes.len() as u64).unwrap();
                raw.extend(*bytes);
            }
            decode(&zstd::encode_all(&raw[..], 1).unwrap()[..], &tempfile::tempfile().unwrap(), 50)
        };
        decoded(&[(0, b"a"), (10, b"b"), (50, b"")]).unwrap();
        assert!(decoded(&[(10, b"b"), (0, b"a"), (50, b"")]).is_err());
        assert!(decoded(&[(10, b"bb"), (11, b"a"), (50, b"")]).is_err(), "one within another");
    }

    #[test]
    fn another_length_or_bytes_after_the_end_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"hello", 0).unwrap();
        assert!(!has_holes(&file).unwrap());
        let object = encoded(&file);
        for len in [4, 6] {
            assert!(decode(&object[..], &tempfile::tempfile().unwrap(), len).is_err(), "{len}");
        }
        let mut raw = zstd::decode_all(&object[..]).unwrap();
        raw.push(0);
        let longer = zstd::encode_all(&raw[..], 1).unwrap();
        assert!(decode(&longer[..], &tempfile::tempfile().unwrap(), 5).is_err());
        assert!(decode(&object[..object.len() - 3], &tempfile::tempfile().unwrap(), 5).is_err());
    }
}
