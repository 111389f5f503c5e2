//! Names of things as types. Every id is safe as a file name and as a host name label.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct BadId {
    text: String,
    what: &'static str,
    rule: &'static str,
}

/// Letters and digits that ids are made of. E2B's clients split host names at `-`, so ids hold none.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const RANDOM_LEN: usize = 20;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id with about 100 random bits from the kernel.
            ///
            /// # Errors
            /// When the kernel gives no random bytes.
            pub fn random() -> Result<Self, getrandom::Error> {
                Ok(Self(format!("{}{}", $prefix, random_text()?)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let rest = text.strip_prefix($prefix).unwrap_or_default();
                if rest.len() == RANDOM_LEN && rest.bytes().all(|b| ALPHABET.contains(&b)) {
                    return Ok(Self(text.to_owned()));
                }
                let rule = concat!("it is ", $prefix, " followed by 20 lower-case letters and digits");
                Err(BadId { text: text.chars().take(80).collect(), what: $what, rule })
            }
        }

        text_conversions!($name);
    };
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

random_id!(
    /// Names a sandbox for its whole life, across pauses.
    SandboxId, "i", "sandbox id"
);
random_id!(
    /// Names one snapshot. A sandbox gets a new one at each pause.
    SnapshotId, "s", "snapshot id"
);

/// Names a template: 1 to 63 of `a-z 0-9 - _ .`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(String);

impl TemplateName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TemplateName {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let first = text.bytes().next().is_some_and(|b| ALPHABET.contains(&b));
        let rest = text.bytes().all(|b| ALPHABET.contains(&b) || b"-_.".contains(&b));
        if first && rest && text.len() <= 63 {
            return Ok(Self(text.to_owned()));
        }
        let rule = "it is 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit";
        Err(BadId { text: text.chars().take(80).collect(), what: "template name", rule })
    }
}

text_conversions!(TemplateName);

fn random_text() -> Result<String, getrandom::Error> {
    let mut out = String::with_capacity(RANDOM_LEN);
    let mut bytes = [0u8; RANDOM_LEN * 2];
    while out.len() < RANDOM_LEN {
        getrandom::fill(&mut bytes)?;
        // 252 is the largest multiple of 36 in a byte: what lies above would favour some letters.
        let unbiased = bytes.iter().filter(|b| **b < 252).filter_map(|b| ALPHABET.get(usize::from(b % 36)));
        out.extend(unbiased.map(|c| char::from(*c)).take(RANDOM_LEN - out.len()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (a, b) = (SandboxId::random().unwrap(), SandboxId::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<SandboxId>(), Ok(a.clone()));
        assert!(a.as_str().parse::<SnapshotId>().is_err(), "a sandbox id is no snapshot id");
    }

    #[test]
    fn nothing_that_could_leave_a_folder_is_a_name() {
        for bad in ["", ".", "..", "../x", "a/b", "A", "-a", "a\0", &"a".repeat(64)] {
            assert!(bad.parse::<TemplateName>().is_err(), "{bad:?}");
            assert!(bad.parse::<SandboxId>().is_err(), "{bad:?}");
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?}");
        }
        for bad in [
            "s",
            "s123",
            "s000000000000000000000",
            "s0000000000000000000/",
            "s0000000000000000000A",
            "i00000000000000000000",
        ] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?}");
        }
        assert!("s00000000000000000000".parse::<SnapshotId>().is_ok());
        assert!("python3.12-slim_x".parse::<TemplateName>().is_ok());
    }
}
