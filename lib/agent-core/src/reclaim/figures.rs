//! What reclaiming has cost and brought so far.

use std::time::Duration;

use super::policy::Reclaimed;

/// Since the agent began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) steps: u64,
    /// Steps and looks that the kernel refused or did not end in time.
    pub(crate) failures: u64,
    /// Bytes of files that were taken.
    pub(crate) files: u64,
    /// Bytes of the caches of names and inodes that were taken.
    pub(crate) names: u64,
    pub(crate) cpu: Duration,
    /// Bytes of evicted files that were read again since the first step, whoever evicted them.
    pub(crate) refaulted: u64,
    refaulted_before: Option<u64>,
}

impl Figures {
    /// Notes a step, taken when `refaulted` bytes had been read again since boot.
    pub(super) fn step(&mut self, got: &Reclaimed, refaulted: u64) {
        self.steps = self.steps.saturating_add(1);
        self.files = self.files.saturating_add(got.files);
        self.cpu = self.cpu.saturating_add(got.cpu);
        self.refaulted_before.get_or_insert(refaulted);
    }

    /// Notes what is seen later: names that steps freed, files that were read again since boot.
    pub(super) fn look(&mut self, names: u64, refaulted: u64) {
        self.names = self.names.saturating_add(names);
        self.refaulted = self.refaulted_before.map_or(0, |before| refaulted.saturating_sub(before));
    }

    pub(super) fn failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Bytes that were taken and not wanted back.
    pub(crate) fn benefit(&self) -> i128 {
        i128::from(self.files) + i128::from(self.names) - i128::from(self.refaulted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benefit_is_what_was_taken_and_not_read_again_since_the_first_step() {
        let mut figures = Figures::default();
        figures.look(0, 500);
        assert_eq!(figures.benefit(), 0, "not by a reclaim of ours");
        let got = Reclaimed { files: 100, cpu: Duration::from_millis(3) };
        figures.step(&got, 500);
        figures.step(&got, 700);
        figures.look(40, 800);
        assert_eq!((figures.steps, figures.benefit()), (2, 240 - 300));
        assert_eq!(figures.cpu, Duration::from_millis(6));
    }
}
