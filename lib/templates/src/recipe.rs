//! What a template is to be made from.

use std::path::PathBuf;

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use crate::BuildError;

/// The smallest overlay disk that is worth mounting.
const MIN_DISK: Bytes = Bytes::mib(64);
/// The largest overlay disk: what ext4 addresses with 4 KiB blocks and 32-bit block numbers.
const MAX_DISK: Bytes = Bytes(16 << 40);
const DEFAULT_DISK: Bytes = Bytes(8 << 30);

/// Everything that decides what a template's files contain, apart from the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where the files of the base disk come from.
    pub rootfs: RootfsSource,
    /// Where the kernel and its modules come from.
    pub kernel: KernelSource,
    /// Size of the overlay disk as the guest sees it; its file takes only what is written to it.
    #[serde(default = "default_disk")]
    pub disk: Bytes,
}

/// Where the files of the base disk come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RootfsSource {
    /// Debian's (or Ubuntu's) own packages, from the mirrors that this machine's apt uses.
    Debian {
        /// Code name of the release, such as `bookworm`; this machine's own when `None`.
        #[serde(default)]
        suite: Option<String>,
        /// Packages wanted besides the essential ones and apt; their dependencies come along, recommendations do not.
        packages: Vec<String>,
    },
    /// A copy of this directory. Other filesystems mounted below it are left out.
    Directory(PathBuf),
    /// The members of this archive: `.tar`, or compressed with gzip, xz or zstd.
    Tar(PathBuf),
}

/// Where the kernel and its modules come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KernelSource {
    /// The distribution's kernel for virtual machines, downloaded but not installed.
    Debian {
        /// Which of the kernels that the distribution offers.
        flavour: KernelLine,
    },
    /// A kernel of one's own.
    Files {
        /// A bzImage, or whatever else the VMM boots.
        vmlinuz: PathBuf,
        /// The folder `lib/modules/RELEASE` that belongs to it.
        modules: PathBuf,
    },
}

/// Which of the kernels that a distribution offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelLine {
    /// The release's own kernel, with its security updates.
    Stable,
    /// The newer kernel of the release's backports suite.
    Backports,
}

fn default_disk() -> Bytes {
    DEFAULT_DISK
}

impl Recipe {
    /// The recipe of the template `base`: a small Debian with bash, python3, git and curl, the release's own kernel,
    /// and an 8 GiB overlay.
    #[must_use]
    pub fn base() -> Self {
        let packages = "bash ca-certificates coreutils curl git iproute2 less mount ncurses-base ncurses-bin passwd procps \
                        python3 sudo vim-tiny";
        Self {
            rootfs: RootfsSource::Debian {
                suite: None,
                packages: packages.split_whitespace().map(str::to_owned).collect(),
            },
            kernel: KernelSource::Debian { flavour: KernelLine::Stable },
            disk: DEFAULT_DISK,
        }
    }

    /// Refuses what could not be built, or could be taken for an option by a tool that is called with it.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if self.disk < MIN_DISK || self.disk > MAX_DISK {
            return refuse(format!("the disk size {} is not between {MIN_DISK} and {MAX_DISK}", self.disk));
        }
        if let RootfsSource::Debian { suite, packages } = &self.rootfs {
            if let Some(suite) = suite.iter().find(|suite| !is_plain_name(suite)) {
                return refuse(format!("{suite:?} is not the code name of a release"));
            }
            if let Some(package) = packages.iter().find(|package| !is_plain_name(package)) {
                return refuse(format!("{package:?} is not the name of a package"));
            }
        }
        Ok(())
    }
}

fn refuse(reason: String) -> Result<(), BuildError> {
    Err(BuildError::Recipe { reason })
}

/// Debian policy 5.6.7: lower case letters, digits, `+`, `-`, `.`, starting with a letter or digit.
fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_recipe_is_sound_and_survives_being_written_down() {
        let base = Recipe::base();
        base.check().unwrap();
        let text = serde_json::to_string(&base).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), base);
    }

    #[test]
    fn names_that_apt_would_take_for_options_or_patterns_are_refused() {
        for name in ["-oDir::Etc=/", "?essential", "", "git,curl", "../x", "a b"] {
            let rootfs = RootfsSource::Debian { suite: None, packages: vec![name.to_owned()] };
            let refused = Recipe { rootfs, ..Recipe::base() }.check().unwrap_err();
            assert!(refused.to_string().contains("not the name of a package"), "{refused}");
        }
    }

    #[test]
    fn a_disk_too_small_for_a_filesystem_is_refused() {
        assert!(Recipe { disk: Bytes::mib(1), ..Recipe::base() }.check().is_err());
        assert!(Recipe { disk: Bytes(u64::MAX), ..Recipe::base() }.check().is_err());
    }
}
