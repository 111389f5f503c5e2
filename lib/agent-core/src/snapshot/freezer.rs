//! Freezing user processes by their cgroup (Documentation/admin-guide/cgroup-v2.rst, `cgroup.freeze`).

use std::io;
use std::path::Path;
use std::time::Duration;

/// The kernel says when all have stopped, but by a file that only inotify watches; asking often is as good.
const POLL: Duration = Duration::from_millis(2);

/// Freezes and waits until all have stopped. The caller bounds the wait.
pub(super) async fn freeze(cgroup: &Path) -> io::Result<()> {
    std::fs::write(cgroup.join("cgroup.freeze"), "1")?;
    while !is_frozen(&std::fs::read_to_string(cgroup.join("cgroup.events"))?) {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Lets them run on. Harmless when not frozen.
pub(super) fn thaw(cgroup: &Path) -> io::Result<()> {
    std::fs::write(cgroup.join("cgroup.freeze"), "0")
}

fn is_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_is_read_from_the_events_file() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n"));
        assert!(!is_frozen(""));
    }
}
