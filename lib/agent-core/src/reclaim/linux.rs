//! Looking at the kernel's memory and asking for some of it.
//!
//! `memory.reclaim` (Documentation/admin-guide/cgroup-v2.rst; since Linux 5.19) of the topmost cgroup takes what is cold in the
//! whole guest, and leaves the agent what `memory.min` of its cgroup protects.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::policy::{MemorySample, ReclaimStep, Reclaimed};
use crate::bounded_file;
use crate::proc::{Meminfo, Pressure, number};

/// The longest is `/proc/vmstat`, with about 8 KiB.
const MAX_FILE: u64 = 64 << 10;
/// Bytes of files that are asked for so that names go too: the kernel has no way to ask for names only.
const FILES_FOR_NAMES: u64 = 1 << 20;
/// How much names count in comparison with files, in percent (Documentation/admin-guide/sysctl/vm.rst).
const NAMES_WEIGHT: &str = "sys/vm/vfs_cache_pressure";

/// Where the kernel's files are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) proc: &'a Path,
    /// The topmost cgroup.
    pub(crate) cgroups: &'a Path,
}

/// Those of the guest that this program runs in.
pub(crate) fn here() -> Places<'static> {
    Places { proc: Path::new("/proc"), cgroups: Path::new("/sys/fs/cgroup") }
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn read(path: &Path) -> io::Result<String> {
    bounded_file::read(path, MAX_FILE)
}

impl Places<'_> {
    /// An error where the kernel lacks what a decision needs. One without pressure figures does without them.
    pub(crate) fn look(&self) -> io::Result<MemorySample> {
        let user = |file: &str| read(&self.cgroups.join("sandbox").join(file));
        let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
        let stall =
            |file| user(file).ok().and_then(|text| Pressure::parse(&text).some).map_or(Duration::ZERO, |s| s.total);
        let memory = Meminfo::parse(&read(&self.proc.join("meminfo"))?);
        let vmstat = read(&self.proc.join("vmstat"))?;
        let refaults = number(&vmstat, "workingset_refault_file").ok_or_else(|| missing("no count of refaults"))?;
        let cpu = number(&user("cpu.stat")?, "usage_usec").ok_or_else(|| missing("no CPU time of user processes"))?;
        let bytes = |file| user(file).ok()?.trim().parse::<u64>().ok();
        let short =
            matches!((bytes("memory.current"), bytes("memory.max")), (Some(now), Some(max)) if now > max / 8 * 7);
        Ok(MemorySample {
            at: time_of(ClockId::Monotonic),
            cpu: Duration::from_micros(cpu),
            memory_stall: stall("memory.pressure"),
            disk_stall: stall("io.pressure"),
            cold_files: memory.inactive_file,
            names: memory.slab_reclaimable,
            refaulted: refaults.saturating_mul(rustix::param::page_size() as u64),
            short,
        })
    }

    /// Takes a step. That the kernel found less than it was asked for is no error.
    pub(crate) fn reclaim(&self, step: ReclaimStep) -> io::Result<Reclaimed> {
        let before = Meminfo::parse(&read(&self.proc.join("meminfo"))?);
        let begin = time_of(ClockId::ThreadCPUTime);
        match step {
            ReclaimStep::Files(bytes) => self.ask(bytes)?,
            ReclaimStep::Names { weight } => self.ask_for_names(weight)?,
        }
        let cpu = time_of(ClockId::ThreadCPUTime).saturating_sub(begin);
        let after = Meminfo::parse(&read(&self.proc.join("meminfo"))?);
        let files = |memory: &Meminfo| memory.active_file.saturating_add(memory.inactive_file);
        Ok(Reclaimed { files: files(&before).saturating_sub(files(&after)), cpu })
    }

    fn ask(&self, bytes: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.cgroups.join("memory.reclaim"))?;
        match file.write_all(bytes.to_string().as_bytes()) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => Ok(()),
            asked => asked,
        }
    }

    fn ask_for_names(&self, weight: u32) -> io::Result<()> {
        let file = self.proc.join(NAMES_WEIGHT);
        let before = read(&file)?;
        fs::write(&file, weight.to_string())?;
        let asked = self.ask(FILES_FOR_NAMES);
        fs::write(&file, before.trim_end())?;
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "Active(file): 8 kB\nInactive(file): 40 kB\nSReclaimable: 20 kB\n";

    struct Imitation(tempfile::TempDir);

    impl Imitation {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["sys/vm", "cgroup/sandbox"] {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            for (file, text) in [
                ("meminfo", MEMINFO),
                ("vmstat", "workingset_refault_anon 9\nworkingset_refault_file 3\n"),
                (NAMES_WEIGHT, "100\n"),
                ("cgroup/memory.reclaim", ""),
                ("cgroup/sandbox/cpu.stat", "usage_usec 5000000\nuser_usec 1\n"),
                ("cgroup/sandbox/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
                ("cgroup/sandbox/memory.current", "900\n"),
                ("cgroup/sandbox/memory.max", "1000\n"),
            ] {
                fs::write(dir.path().join(file), text).unwrap();
            }
            Self(dir)
        }

        fn file(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn with<T>(&self, f: impl FnOnce(&Places<'_>) -> T) -> T {
            f(&Places { proc: self.0.path(), cgroups: &self.file("cgroup") })
        }
    }

    #[test]
    fn a_look_tells_what_is_cold_and_how_calm_it_is() {
        let kernel = Imitation::new();
        let sample = kernel.with(|places| places.look()).unwrap();
        assert_eq!((sample.cold_files, sample.names, sample.refaulted), (40 << 10, 20 << 10, 3 * 4096));
        assert_eq!((sample.cpu, sample.memory_stall), (Duration::from_secs(5), Duration::from_micros(7)));
        assert!(sample.short && sample.disk_stall.is_zero(), "without pressure figures it looks calm");
        fs::write(kernel.file("cgroup/sandbox/memory.max"), "max\n").unwrap();
        assert!(!kernel.with(|places| places.look()).unwrap().short);
        fs::write(kernel.file("vmstat"), "").unwrap();
        assert!(kernel.with(|places| places.look()).is_err(), "what it takes could not be judged");
    }

    #[test]
    fn a_step_asks_the_topmost_cgroup_and_the_weight_of_names_is_what_it_was_afterwards() {
        let kernel = Imitation::new();
        let got = kernel.with(|places| places.reclaim(ReclaimStep::Files(4096))).unwrap();
        assert_eq!(fs::read_to_string(kernel.file("cgroup/memory.reclaim")).unwrap(), "4096");
        assert_eq!(got.files, 0, "nothing has changed");
        kernel.with(|places| places.reclaim(ReclaimStep::Names { weight: 400 })).unwrap();
        assert!(fs::read_to_string(kernel.file("cgroup/memory.reclaim")).unwrap().starts_with("1048576"));
        assert_eq!(fs::read_to_string(kernel.file(NAMES_WEIGHT)).unwrap(), "100");
        fs::remove_file(kernel.file("cgroup/memory.reclaim")).unwrap();
        assert!(kernel.with(|places| places.reclaim(ReclaimStep::Names { weight: 400 })).is_err());
        assert_eq!(fs::read_to_string(kernel.file(NAMES_WEIGHT)).unwrap(), "100", "also after a failure");
    }
}
