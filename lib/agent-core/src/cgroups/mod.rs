//! Where processes live in a guest: cgroups v2 (Documentation/admin-guide/cgroup-v2.rst).
//!
//! ```text
//! system         the agent
//! sandbox        what users run, bounded as a whole
//! ├── pty        processes with a terminal
//! └── user       all others
//! ```

mod limits;
mod tree;

use std::path::{Path, PathBuf};

pub(crate) use tree::make;

/// The cgroup directories of user processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    /// Processes with a terminal, and what they start.
    pub pty: PathBuf,
    /// All other processes, and what they start.
    pub user: PathBuf,
}

impl Cgroups {
    /// Where a process belongs.
    pub(crate) fn of(&self, terminal: bool) -> &Path {
        if terminal { &self.pty } else { &self.user }
    }

    /// Every directory that user processes live in.
    pub(crate) fn all(&self) -> [&Path; 2] {
        [&self.pty, &self.user]
    }
}
