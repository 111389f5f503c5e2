//! Readers of bodies and headers without files, for fuzzing.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue};

use super::disposition::disposition;
use super::encoding::choose;
use super::gunzip::Gunzip;
use super::multipart::Parts;
use super::{metadata, range};

/// Names and sizes of the files in a multipart body; `None` when it is broken.
pub(crate) async fn read_parts(
    body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    content_type: &str,
    gzip: bool,
) -> Option<Vec<(String, u64)>> {
    let parts = if gzip { Parts::new(Gunzip::new(body), content_type) } else { Parts::new(body, content_type) };
    let mut parts = parts.ok()?;
    let mut files = Vec::new();
    while let Some((mut field, taken)) = parts.next_file().await.ok()? {
        let mut size = 0_u64;
        while let Some(chunk) = field.chunk().await.ok()? {
            taken.given();
            size = size.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        }
        files.push((field.file_name().unwrap_or("").to_owned(), size));
    }
    Some(files)
}

/// Reads what headers say about ranges, codings and metadata, and names the file at `path`.
pub(crate) fn read_headers(headers: &mut HeaderMap, path: &Path) -> HeaderValue {
    range::simplify(headers);
    choose(headers);
    // Refused or not.
    let _ = metadata::of_request(headers);
    disposition(path)
}
