//! Why a build could not be done, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a build could not be done. Nothing half-made is in the store when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// [`crate::Progress::cancelled`] said so.
    #[error("the build was cancelled")]
    Cancelled,
    /// Another build uses the same scratch folder.
    #[error("another build is using {}; wait for it to end", scratch.display())]
    Busy {
        /// The scratch folder.
        scratch: PathBuf,
    },
    /// The owners of files can only be kept by root.
    #[error("making a base disk needs root, because its files belong to several users; run it as root")]
    NeedsRoot,
    /// The recipe asks for something impossible.
    #[error("the recipe cannot be built: {reason}")]
    Recipe {
        /// What is wrong.
        reason: String,
    },
    /// A program is not installed.
    #[error("{tool} is missing; install the package {package} (scripts/setup installs everything)")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{tool} failed ({status}): {tail}{hint}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// Its exit status.
        status: String,
        /// The last lines of its output.
        tail: String,
        /// What may help, or nothing.
        hint: &'static str,
    },
    /// This machine's apt configuration names no source for a release.
    #[error(
        "no apt source with the suite {suite} and the component main is enabled on this machine; add one under /etc/apt/sources.list.d"
    )]
    NoAptSource {
        /// The suite that was looked for.
        suite: String,
    },
    /// The distribution is not known, or has no such kernel.
    #[error("no {wanted} kernel package is known for {distribution}; give the kernel as files instead")]
    NoKernelPackage {
        /// What was wanted.
        wanted: &'static str,
        /// `ID` and code name of the distribution.
        distribution: String,
    },
    /// A module without which no guest works is neither in the module folder nor built into the kernel.
    #[error("the kernel {release} has no module {module}, which every guest needs; use a kernel that has it")]
    ModuleMissing {
        /// The module.
        module: String,
        /// The kernel's release.
        release: String,
    },
    /// A kernel or module file is not what it should be.
    #[error("{} is not usable: {reason}", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The root filesystem holds something that cannot be worked with.
    #[error("the root filesystem is not usable: {reason}")]
    Rootfs {
        /// What is wrong.
        reason: String,
    },
    /// Scratch and store are on different filesystems, so nothing can be moved into the store in one step.
    #[error("{} and {} are on different filesystems; put both on the same one", scratch.display(), store.display())]
    SeparateFilesystems {
        /// The scratch folder.
        scratch: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Says to which file an I/O error belongs.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, BuildError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, BuildError> {
        self.map_err(|source| BuildError::Io { path: path.to_owned(), source: source.into() })
    }
}
