//! Names of snapshots as the store uses them: in paths and in the keys of objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of a snapshot: 1 to 100 of `A-Z a-z 0-9 - _`. So it is a plain file name and needs no escaping in an object's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

/// The text is no [`SnapshotName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot's name is 1 to 100 of A-Z, a-z, 0-9, '-' and '_'")]
pub struct BadSnapshotName;

impl SnapshotName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for SnapshotName {
    type Error = BadSnapshotName;

    fn try_from(text: &str) -> Result<Self, BadSnapshotName> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = BadSnapshotName;

    fn try_from(text: String) -> Result<Self, BadSnapshotName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if (1..=100).contains(&text.len()) && text.bytes().all(plain) { Ok(Self(text)) } else { Err(BadSnapshotName) }
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        assert!(SnapshotName::try_from("s4oqv6h8e9rxjo0f70p94").is_ok());
        for bad in ["", ".", "..", "a/b", "a.b", "ä", "a b", &"x".repeat(101)] {
            assert_eq!(SnapshotName::try_from(bad), Err(BadSnapshotName), "{bad:?}");
        }
    }
}
