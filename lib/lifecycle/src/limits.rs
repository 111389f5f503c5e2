//! How long anything may take. Software emulation is slow: the defaults leave room for a busy machine.

use std::time::Duration;

/// Deadlines and bounds. Every wait in this crate has one of these.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of a VM that boots to its agent's first answer.
    pub boot: Duration,
    /// From the start of a restored VM to its agent's first answer.
    pub resume: Duration,
    /// What the agent may spend on a prepare.
    pub prepare: Duration,
    /// What is added to [`prepare`](Self::prepare) before the agent is given up on.
    pub agent_grace: Duration,
    /// How long a resume may wait for packs that are only on the remote.
    pub fetch: Duration,
    /// Packs on the remote that are younger are not collected: somebody else may be about to name them.
    pub remote_garbage: Duration,
    /// How many sandboxes may start at the same time; more wait.
    pub starting: usize,
    /// How many copies of running guests' RAM may be in memory at the same time; more checkpoints wait.
    pub copies: usize,
    /// Threads that compress a memory image.
    pub image_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(180),
            resume: Duration::from_secs(60),
            prepare: Duration::from_secs(20),
            agent_grace: Duration::from_secs(5),
            fetch: Duration::from_secs(15 * 60),
            remote_garbage: Duration::from_secs(24 * 60 * 60),
            starting: 4,
            copies: 2,
            image_threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8),
        }
    }
}
