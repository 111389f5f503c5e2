//! Which distribution this machine runs.

use std::fs;
use std::path::Path;

use crate::BuildError;
use crate::error::AtPath;

/// A distribution's name and the code name of its release, from os-release(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// `debian`, `ubuntu`, …
    pub(crate) id: String,
    /// `bookworm`, `noble`, …; empty where there is none.
    pub(crate) codename: String,
}

impl Release {
    /// This machine's.
    pub(crate) fn of_machine() -> Result<Self, BuildError> {
        let path = Path::new("/etc/os-release");
        Ok(Self::parse(&fs::read_to_string(path).at(path)?))
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        Self { id: value("ID"), codename: value("VERSION_CODENAME") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_name_is_read_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID='debian'\n";
        assert_eq!(Release::parse(text), Release { id: "debian".into(), codename: "bookworm".into() });
    }
}
