//! Figures of the machine that the agent runs on, and of its process.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::text::{Kind, Text};
use crate::bounded_file;
use crate::proc::{CPU_MODES, CpuTimes, Meminfo, Pressure, Stall, number};

/// The longest is `/proc/stat`, which tells about every interrupt of every CPU.
const MAX_FILE: u64 = 1 << 20;
const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];
const WINDOWS: [&str; 3] = ["10s", "60s", "300s"];

/// Use of the root file system, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk {
    pub(super) total: u64,
    /// What users could not write any more.
    pub(super) used: u64,
}

/// The agent's own process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    cpu: Duration,
    resident: u64,
    most_resident: u64,
    descriptors: u64,
}

/// All of it, at one moment. What cannot be read is zero or absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// Seconds since 1970.
    pub(super) seconds: i64,
    pub(super) memory: Meminfo,
    pub(super) cpu: CpuTimes,
    pressure: [Pressure; RESOURCES.len()],
    pub(super) disk: Disk,
    own: Own,
}

fn read(path: &str) -> String {
    bounded_file::read(path, MAX_FILE).unwrap_or_default()
}

impl Machine {
    /// Blocks, and may hang where somebody mounted something over the kernel's files.
    pub(super) fn read() -> Self {
        Self {
            seconds: clock_gettime(ClockId::Realtime).tv_sec,
            memory: Meminfo::parse(&read("/proc/meminfo")),
            cpu: CpuTimes::parse(&read("/proc/stat"), rustix::param::clock_ticks_per_second()),
            pressure: RESOURCES.map(|resource| Pressure::parse(&read(&format!("/proc/pressure/{resource}")))),
            disk: disk(Path::new("/")),
            own: own(),
        }
    }
}

fn disk(path: &Path) -> Disk {
    let Ok(stat) = rustix::fs::statvfs(path) else { return Disk::default() };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Disk { total: bytes(stat.f_blocks), used: bytes(stat.f_blocks.saturating_sub(stat.f_bavail)) }
}

fn own() -> Own {
    let status = read("/proc/self/status");
    let bytes = |key| number(&status, key).unwrap_or(0).saturating_mul(1024);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Own {
        cpu: Duration::new(cpu.tv_sec.try_into().unwrap_or(0), cpu.tv_nsec.try_into().unwrap_or(0)),
        resident: bytes("VmRSS"),
        most_resident: bytes("VmHWM"),
        descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
    }
}

pub(super) fn write(text: &mut Text, machine: &Machine) {
    cpu(text, &machine.cpu);
    memory(text, &machine.memory);
    pressure(text, &machine.pressure);
    text.one("dormouse_disk_size_bytes", Kind::Gauge, "Size of the root file system.", machine.disk.total);
    text.one(
        "dormouse_disk_used_bytes",
        Kind::Gauge,
        "What of the root file system users cannot write any more.",
        machine.disk.used,
    );
    process(text, &machine.own);
}

fn cpu(text: &mut Text, cpu: &CpuTimes) {
    text.one("dormouse_cpus", Kind::Gauge, "CPUs of the machine.", cpu.cpus);
    let mut family =
        text.family("dormouse_cpu_seconds_total", Kind::Counter, "CPU time since boot, all CPUs together.");
    for (mode, time) in CPU_MODES.iter().zip(cpu.modes) {
        family.value(&[("mode", mode)], time.as_secs_f64());
    }
}

fn memory(text: &mut Text, memory: &Meminfo) {
    text.one("dormouse_memory_total_bytes", Kind::Gauge, "Memory of the machine.", memory.total);
    let help = "What programs could still get, by the kernel's estimate.";
    text.one("dormouse_memory_available_bytes", Kind::Gauge, help, memory.available);
    let help = "Memory by class; shared and dirty memory is also part of cache, cold and warm files are most of the rest of it.";
    let mut family = text.family("dormouse_memory_bytes", Kind::Gauge, help);
    for (class, bytes) in [
        ("free", memory.free),
        ("cache", memory.cache),
        ("dirty", memory.dirty),
        ("anon", memory.anon),
        ("shared", memory.shared),
        ("slab", memory.slab_reclaimable.saturating_add(memory.slab_unreclaimable)),
        ("slab_reclaimable", memory.slab_reclaimable),
        ("page_tables", memory.page_tables),
        ("kernel_stacks", memory.kernel_stacks),
        ("warm_files", memory.active_file),
        ("cold_files", memory.inactive_file),
    ] {
        family.value(&[("class", class)], bytes);
    }
}

fn pressure(text: &mut Text, pressure: &[Pressure; RESOURCES.len()]) {
    let all = || RESOURCES.into_iter().zip(pressure);
    let kinds = |pressure: &Pressure| [("some", pressure.some), ("full", pressure.full)];
    let stalls = || all().flat_map(|(resource, p)| kinds(p).map(|(kind, stall)| (resource, kind, stall)));
    let known = || stalls().filter_map(|(resource, kind, stall): (_, _, Option<Stall>)| Some((resource, kind, stall?)));
    let help = "Time in which tasks waited for a resource: some of them, or all that wanted to run.";
    let mut family = text.family("dormouse_pressure_stalled_seconds_total", Kind::Counter, help);
    for (resource, kind, stall) in known() {
        family.value(&[("resource", resource), ("kind", kind)], stall.total.as_secs_f64());
    }
    let mut family = text.family("dormouse_pressure_ratio", Kind::Gauge, "The same as a part of the last seconds.");
    for (resource, kind, stall) in known() {
        for (window, percent) in WINDOWS.iter().zip(stall.percent) {
            family.value(&[("resource", resource), ("kind", kind), ("window", window)], percent / 100.0);
        }
    }
}

/// By the names that are customary for processes.
fn process(text: &mut Text, own: &Own) {
    text.one("process_cpu_seconds_total", Kind::Counter, "CPU time of the agent.", own.cpu.as_secs_f64());
    text.one("process_resident_memory_bytes", Kind::Gauge, "Memory of the agent.", own.resident);
    let help = "The most memory that the agent has had.";
    text.one("process_resident_memory_max_bytes", Kind::Gauge, help, own.most_resident);
    text.one("process_open_fds", Kind::Gauge, "Descriptors that the agent holds.", own.descriptors);
}
