//! What clients note on files: request headers `X-Metadata-<key>`, kept as extended attributes `user.e2b.<key>`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use http::HeaderMap;
use rustix::fs::{XattrFlags, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;
use thiserror::Error;

/// Keys and values, by key.
pub(crate) type Metadata = BTreeMap<String, String>;

const HEADER: &str = "x-metadata-";
const ATTRIBUTE: &str = "user.e2b.";
/// The kernel takes names of attributes up to 255 bytes (xattr(7)).
const MAX_KEY: usize = 255 - ATTRIBUTE.len();
/// Keys and values together.
const MAX_TOTAL: usize = 4096;
/// The kernel's own limit of a list of names, XATTR_LIST_MAX.
const MAX_LIST: usize = 65_536;
/// Enough for nearly every file's list.
const FEW: usize = 1024;

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum MetadataError {
    #[error("metadata header without a key")]
    NoKey,
    #[error("metadata key '{0}' is given twice")]
    Twice(String),
    #[error("metadata key is longer than {MAX_KEY} bytes")]
    KeyTooLong,
    #[error("metadata value of '{0}' is not printable ASCII")]
    NotPrintable(String),
    #[error("metadata is larger than {MAX_TOTAL} bytes")]
    TooLarge,
}

/// Those of a request.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Metadata, MetadataError> {
    let mut metadata = Metadata::new();
    let mut total = 0_usize;
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(HEADER) else { continue };
        if key.is_empty() {
            return Err(MetadataError::NoKey);
        }
        if key.len() > MAX_KEY {
            return Err(MetadataError::KeyTooLong);
        }
        let text = printable(value.as_bytes()).ok_or_else(|| MetadataError::NotPrintable(key.to_owned()))?;
        total = total.saturating_add(key.len()).saturating_add(text.len());
        if total > MAX_TOTAL {
            return Err(MetadataError::TooLarge);
        }
        if metadata.insert(key.to_owned(), text).is_some() {
            return Err(MetadataError::Twice(key.to_owned()));
        }
    }
    Ok(metadata)
}

fn printable(value: &[u8]) -> Option<String> {
    let fits = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then(|| String::from_utf8_lossy(value).into_owned())
}

/// Makes `metadata` all that `file` carries.
pub(super) fn replace(file: &std::fs::File, metadata: &Metadata) -> io::Result<()> {
    for name in names(|list| flistxattr(file, list)) {
        if name.strip_prefix(ATTRIBUTE).is_some_and(|key| !metadata.contains_key(key)) {
            match fremovexattr(file, name.as_str()) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (key, value) in metadata {
        fsetxattr(file, format!("{ATTRIBUTE}{key}"), value.as_bytes(), XattrFlags::empty()).map_err(unkept)?;
    }
    Ok(())
}

/// Says it where a file system has no attributes of users, as tmpfs before Linux 6.6.
fn unkept(error: Errno) -> io::Error {
    match error {
        Errno::NOTSUP => io::Error::new(io::ErrorKind::Unsupported, "its file system keeps no metadata"),
        error => error.into(),
    }
}

/// What the file at `path` carries, links followed. What a program in the guest wrote that no client could have written is left out.
pub(crate) fn of_file(path: &Path) -> Metadata {
    let mut metadata = Metadata::new();
    let mut total = 0_usize;
    for name in names(|list| listxattr(path, list)) {
        let Some(key) = name.strip_prefix(ATTRIBUTE).filter(|key| !key.is_empty()) else { continue };
        let mut value = [0; MAX_TOTAL];
        let text = getxattr(path, name.as_str(), &mut value[..]).ok().and_then(|size| printable(value.get(..size)?));
        let Some(text) = text else { continue };
        total = total.saturating_add(key.len()).saturating_add(text.len());
        if total > MAX_TOTAL {
            break;
        }
        metadata.insert(key.to_owned(), text);
    }
    metadata
}

/// Names of attributes. None where the file system has no attributes.
fn names(list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Vec<String> {
    let mut names = vec![0; FEW];
    let used = match list(&mut names) {
        Err(Errno::RANGE) => {
            names.resize(MAX_LIST, 0);
            list(&mut names).unwrap_or(0)
        }
        used => used.unwrap_or(0),
    };
    let all = names.get(..used).unwrap_or_default().split(|byte| *byte == 0);
    all.filter(|name| !name.is_empty()).filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[(&str, &[u8])]) -> Result<Metadata, MetadataError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(http::HeaderName::try_from(*name).unwrap(), http::HeaderValue::from_bytes(value).unwrap());
        }
        of_request(&headers)
    }

    #[test]
    fn headers_become_metadata_within_their_limits() {
        let pair = |key: &str, value: &str| Ok(Metadata::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(parsed(&[("X-Metadata-Owner", b"me ~"), ("x-other", b"1")]), pair("owner", "me ~"));
        assert_eq!(parsed(&[("x-metadata-", b"1")]), Err(MetadataError::NoKey));
        assert_eq!(parsed(&[("x-metadata-a", b"1"), ("x-metadata-a", b"2")]), Err(MetadataError::Twice("a".into())));
        assert_eq!(parsed(&[("x-metadata-a", b"\xc3\xbc")]), Err(MetadataError::NotPrintable("a".into())));
        assert_eq!(parsed(&[("x-metadata-a", b"a\tb")]), Err(MetadataError::NotPrintable("a".into())));
        let longest = "k".repeat(246);
        assert_eq!(parsed(&[(&format!("x-metadata-{longest}"), b"")]), pair(&longest, ""));
        assert_eq!(parsed(&[(&format!("x-metadata-{longest}k"), b"")]), Err(MetadataError::KeyTooLong));
        assert_eq!(parsed(&[("x-metadata-a", &[b'v'; 4095])]).unwrap().len(), 1);
        assert_eq!(parsed(&[("x-metadata-a", &[b'v'; 4096])]), Err(MetadataError::TooLarge));
    }
}
