//! A file on its way out, compressed.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{Stream, try_unfold};

/// What is read and compressed at once.
const PIECE: u64 = 128 * 1024;

/// The bytes of `file` as one gzip stream, `length` of them at most. Reads and compresses off the agent's thread, and only as fast as
/// the client takes it.
pub(super) fn compressed(file: File, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    try_unfold(Some((file, length, encoder)), |state| async move {
        let Some((mut file, mut left, mut encoder)) = state else { return Ok(None) };
        let next = move || -> io::Result<_> {
            let mut piece = Vec::new();
            // What compresses well may give nothing for a while.
            while encoder.get_ref().is_empty() {
                piece.clear();
                (&mut file).take(left.min(PIECE)).read_to_end(&mut piece)?;
                if piece.is_empty() {
                    return Ok((Bytes::from(encoder.finish()?), None));
                }
                left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                encoder.write_all(&piece)?;
            }
            let out = std::mem::take(encoder.get_mut());
            Ok((Bytes::from(out), Some((file, left, encoder))))
        };
        tokio::task::spawn_blocking(next).await.map_err(io::Error::other)?.map(Some)
    })
}
