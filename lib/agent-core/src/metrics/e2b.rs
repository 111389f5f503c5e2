//! E2B's figures of a guest.

use serde::Serialize;

use super::machine::Machine;
use crate::proc::CpuTimes;

const MIB: u64 = 1 << 20;

/// Field names are those of the wire.
#[derive(Debug, Serialize)]
pub(super) struct E2bMetrics {
    /// Seconds since 1970.
    ts: i64,
    cpu_count: u32,
    /// Of all CPUs, since the last question; since boot at the first.
    cpu_used_pct: f64,
    mem_total: u64,
    /// What programs could not get any more.
    mem_used: u64,
    mem_cache: u64,
    mem_total_mib: u64,
    mem_used_mib: u64,
    disk_used: u64,
    disk_total: u64,
}

impl E2bMetrics {
    pub(super) fn new(machine: &Machine, asked: &CpuTimes) -> Self {
        let memory = &machine.memory;
        let used = memory.total.saturating_sub(memory.available);
        Self {
            ts: machine.seconds,
            cpu_count: machine.cpu.cpus,
            cpu_used_pct: (machine.cpu.busy_percent_since(asked) * 100.0).round() / 100.0,
            mem_total: memory.total,
            mem_used: used,
            mem_cache: memory.cache,
            mem_total_mib: memory.total / MIB,
            mem_used_mib: used / MIB,
            disk_used: machine.disk.used,
            disk_total: machine.disk.total,
        }
    }
}
