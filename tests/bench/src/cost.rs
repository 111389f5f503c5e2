//! What work costs this process: CPU time and memory.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use dormouse_guest_mem::Bytes;

use crate::cpu_time;

/// The state of this process before the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    cpu: Duration,
    resident: Bytes,
}

/// What was used since a baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
    /// Most memory that the process had resident.
    pub(crate) peak: Bytes,
    /// How much more that is than before the work.
    pub(crate) growth: Bytes,
}

impl Baseline {
    /// From here on. The kernel's mark of the most memory is set back (`proc_pid_clear_refs(5)`).
    pub(crate) fn now() -> anyhow::Result<Self> {
        fs::write("/proc/self/clear_refs", "5").context("set back the mark of the most memory")?;
        Ok(Self { cpu: cpu_time::of_process(), resident: status("VmRSS:")? })
    }

    /// What was used until now.
    pub(crate) fn cost(&self) -> anyhow::Result<Cost> {
        let peak = status("VmHWM:")?;
        Ok(Cost {
            cpu: cpu_time::of_process().saturating_sub(self.cpu),
            peak,
            growth: Bytes(peak.0.saturating_sub(self.resident.0)),
        })
    }
}

fn status(key: &str) -> anyhow::Result<Bytes> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(Bytes(kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_used_and_given_back_is_counted_once() {
        let before = Baseline::now().unwrap();
        drop(std::hint::black_box(vec![1u8; 256 << 20]));
        let cost = before.cost().unwrap();
        // The kernel counts in batches, and other tests give memory back meanwhile.
        assert!(cost.growth >= Bytes(224 << 20), "{cost:?}");
        // Other tests run meanwhile and use memory too, but not as much.
        let again = Baseline::now().unwrap().cost().unwrap();
        assert!(again.growth < Bytes(128 << 20), "{again:?}");
    }
}
