//! What reads hostile input, as function calls without a socket: for fuzzing.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::files;
pub use crate::server::Requests;
use crate::{boot, identity, ports, snapshot};

/// `bytes` as they come over a connection: `size` at a time.
pub(crate) fn pieces(bytes: &[u8], size: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    let pieces: Vec<_> = bytes.chunks(size.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

/// Reads `bytes` as each of the texts that come from the kernel or from files which users of a guest can write.
pub fn read_texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    boot::read_any(&text);
    identity::read_any(&text);
    ports::read_any(&text, bytes);
    snapshot::read_any(&text);
}

/// Reads a multipart body that comes in pieces of `size` bytes; gives the names of its files and the size of each. `None` when it is
/// broken.
pub async fn read_multipart(body: &[u8], size: usize, content_type: &str, gzip: bool) -> Option<Vec<(String, u64)>> {
    files::read_parts(pieces(body, size), content_type, gzip).await
}

/// Where `path` lies for a user whose home is `home`; `None` when no file can be there.
#[must_use]
pub fn place(path: &str, home: &Path) -> Option<PathBuf> {
    identity::resolve(path, home, home).ok()
}

/// Reads the headers of a request for or of a file; gives what an answer about a file at `path` says of its name.
#[must_use]
pub fn read_file_headers<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, path: &Path) -> HeaderValue {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    identity::basic_user(&headers);
    files::read_headers(&mut headers, path)
}
