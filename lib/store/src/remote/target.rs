//! Where the remote is, and what it takes to get in.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::RemoteError;

/// A place for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A folder, on a network file system for example. Made if it is not there.
    Folder(PathBuf),
    /// A bucket of anything that speaks S3.
    S3(S3Target),
}

/// A bucket, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Target {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys start with; may be empty.
    pub prefix: String,
    /// The region, `us-east-1` if not given.
    pub region: Option<String>,
    /// The server, with its scheme; that of AWS for the region if not given. Plain `http://` is taken at its word.
    pub endpoint: Option<String>,
    /// What requests are signed with.
    pub credentials: Credentials,
}

/// What requests to a bucket are signed with. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Zeroizing<String>,
    /// Goes with keys that are valid for a limited time.
    pub session_token: Option<Zeroizing<String>>,
}

/// A target as it is written on a command line, without what must not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetUrl {
    /// `file:///path`
    Folder(PathBuf),
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all keys start with; may be empty.
        prefix: String,
    },
}

impl TargetUrl {
    /// Reads `s3://bucket/prefix` or `file:///path`.
    ///
    /// # Errors
    /// [`RemoteError::Config`].
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let wrong = |reason: &str| Err(RemoteError::Config { reason: format!("{text:?} {reason}") });
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Folder(path.into()))
            } else {
                wrong("names no absolute path: write file:///path")
            };
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return wrong("is neither s3://bucket/prefix nor file:///path");
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if bucket.is_empty() || !bucket.bytes().all(plain) {
            return wrong("has no bucket's name after s3:// (credentials do not belong here)");
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.bytes().all(|b| plain(b) || b == b'/') || prefix.split('/').any(|part| part == "." || part == "..") {
            return wrong("has a prefix with characters other than A-Z, a-z, 0-9, '-', '_', '.' and '/'");
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

#[cfg(feature = "testing")]
impl Target {
    /// A bucket of a plain server in the tests' own process, whose only user has this key: its id, and the secret.
    #[must_use]
    pub fn of_test_server(address: std::net::SocketAddr, bucket: &str, prefix: &str, key: (&str, &str)) -> Self {
        Self::S3(S3Target {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            endpoint: Some(format!("http://{address}")),
            credentials: Credentials {
                access_key_id: key.0.to_owned(),
                secret_access_key: key.1.to_owned().into(),
                session_token: None,
            },
        })
    }
}

impl fmt::Display for Target {
    /// Names the place and no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3(s3) => {
                write!(f, "s3://{}", s3.bucket)?;
                if !s3.prefix.is_empty() {
                    write!(f, "/{}", s3.prefix)?;
                }
                s3.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_bad_ones_are_explained() {
        let s3 = |bucket: &str, prefix: &str| TargetUrl::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(TargetUrl::parse("s3://b").unwrap(), s3("b", ""));
        assert_eq!(TargetUrl::parse("s3://b/a/c/").unwrap(), s3("b", "a/c"));
        assert_eq!(TargetUrl::parse("file:///x/y").unwrap(), TargetUrl::Folder("/x/y".into()));
        for bad in ["", "b/p", "s3://", "s3:///p", "s3://key:secret@b/p", "s3://b/../c", "s3://b/ä", "file://x"] {
            assert!(matches!(TargetUrl::parse(bad), Err(RemoteError::Config { .. })), "{bad}");
        }
    }

    #[test]
    fn nothing_that_is_shown_holds_a_secret() {
        let target = Target::S3(S3Target {
            bucket: "b".into(),
            prefix: "p".into(),
            region: None,
            endpoint: Some("http://localhost".into()),
            credentials: Credentials {
                access_key_id: "id".into(),
                secret_access_key: Zeroizing::new("hush".into()),
                session_token: Some(Zeroizing::new("hush".into())),
            },
        });
        assert_eq!(target.to_string(), "s3://b/p at http://localhost");
        assert!(!format!("{target:?}").contains("hush"));
    }
}
