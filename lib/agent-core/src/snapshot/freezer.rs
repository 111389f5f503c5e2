//! Freezing user processes by their cgroup (Documentation/admin-guide/cgroup-v2.rst, `cgroup.freeze`).

use std::io;
use std::time::Duration;

use crate::cgroups::Cgroups;

/// The kernel says when all have stopped, but by a file that only inotify watches; asking often is as good.
const POLL: Duration = Duration::from_millis(2);

/// Freezes all and waits until they have stopped. The caller bounds the wait, and thaws after an error.
pub(super) async fn freeze(cgroups: &Cgroups) -> io::Result<()> {
    for cgroup in cgroups.all() {
        std::fs::write(cgroup.join("cgroup.freeze"), "1")?;
    }
    for cgroup in cgroups.all() {
        while !is_frozen(&std::fs::read_to_string(cgroup.join("cgroup.events"))?) {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Lets them run on, each whether or not another could be thawed. Harmless when not frozen.
pub(super) fn thaw(cgroups: &Cgroups) -> io::Result<()> {
    let thawed = cgroups.all().map(|cgroup| std::fs::write(cgroup.join("cgroup.freeze"), "0"));
    thawed.into_iter().collect()
}

pub(super) fn is_frozen(events: &str) -> bool {
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
