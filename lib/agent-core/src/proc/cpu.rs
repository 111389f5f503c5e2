//! CPU times of `/proc/stat` (proc_stat(5)).

use std::time::Duration;

/// Names of the times, in the order of the file. `guest` times are part of `user` and `nice`.
pub(crate) const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;

/// CPU time since boot, all CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    pub(crate) modes: [Duration; MODES.len()],
    pub(crate) cpus: u32,
}

impl CpuTimes {
    /// `ticks` is how many of the file's units make a second.
    pub(crate) fn parse(text: &str, ticks: u64) -> Self {
        let mut times = Self::default();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("cpu") else { continue };
            if rest.starts_with(|c: char| c.is_ascii_digit()) {
                times.cpus = times.cpus.saturating_add(1);
            } else if rest.starts_with(' ') {
                for (mode, field) in times.modes.iter_mut().zip(rest.split_whitespace()) {
                    let micros = field.parse::<u64>().unwrap_or(0).saturating_mul(1_000_000) / ticks.max(1);
                    *mode = Duration::from_micros(micros);
                }
            }
        }
        times
    }

    fn sum(&self, counts: impl Fn(usize) -> bool) -> Duration {
        let counted = self.modes.iter().enumerate().filter(|(mode, _)| counts(*mode)).map(|(_, time)| *time);
        counted.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Percent of all CPUs' time that was not idle, since `before`. Zero when no time has passed.
    pub(crate) fn busy_percent_since(&self, before: &Self) -> f64 {
        let all = self.sum(|_| true).saturating_sub(before.sum(|_| true));
        let idle = |times: &Self| times.sum(|mode| mode == IDLE || mode == IOWAIT);
        let idle = idle(self).saturating_sub(idle(before));
        if all.is_zero() { 0.0 } else { all.saturating_sub(idle).as_secs_f64() / all.as_secs_f64() * 100.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_cpus_are_read_and_only_idle_time_is_idle() {
        let before = CpuTimes::parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5\n", 100);
        assert_eq!((before.cpus, before.modes[3]), (2, Duration::from_secs(7)));
        let after = CpuTimes::parse("cpu  150 0 150 750 150 0 0 0 0 0\ncpu0 1\ncpu1 1\n", 100);
        assert!((after.busy_percent_since(&before) - 50.0).abs() < 1e-9);
        assert!(after.busy_percent_since(&after).abs() < 1e-9);
        assert!(before.busy_percent_since(&after).abs() < 1e-9, "a counter that went back");
    }
}
