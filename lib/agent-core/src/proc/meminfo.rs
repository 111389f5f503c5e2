//! `/proc/meminfo` (proc_meminfo(5)).

use super::number;

/// Memory of the whole machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meminfo {
    pub(crate) total: u64,
    pub(crate) free: u64,
    /// What programs could still get, by the kernel's estimate.
    pub(crate) available: u64,
    /// Pages of files and of disks, those of tmpfs included.
    pub(crate) cache: u64,
    /// Not written to a disk yet, or just being written.
    pub(crate) dirty: u64,
    pub(crate) anon: u64,
    /// tmpfs and shared memory.
    pub(crate) shared: u64,
    pub(crate) slab_reclaimable: u64,
    pub(crate) slab_unreclaimable: u64,
    pub(crate) page_tables: u64,
    pub(crate) kernel_stacks: u64,
    /// Pages of files that were used more than once, or lately.
    pub(crate) active_file: u64,
    /// Pages of files that were used once, or not for long.
    pub(crate) inactive_file: u64,
}

impl Meminfo {
    pub(crate) fn parse(text: &str) -> Self {
        let bytes = |key: &str| number(text, key).unwrap_or(0).saturating_mul(1024);
        Self {
            total: bytes("MemTotal"),
            free: bytes("MemFree"),
            available: bytes("MemAvailable"),
            cache: bytes("Cached").saturating_add(bytes("Buffers")),
            dirty: bytes("Dirty").saturating_add(bytes("Writeback")),
            anon: bytes("AnonPages"),
            shared: bytes("Shmem"),
            slab_reclaimable: bytes("SReclaimable"),
            slab_unreclaimable: bytes("SUnreclaim"),
            page_tables: bytes("PageTables"),
            kernel_stacks: bytes("KernelStack"),
            active_file: bytes("Active(file)"),
            inactive_file: bytes("Inactive(file)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_nonsense_counts_as_zero() {
        let text = "MemTotal: 9 kB\nMemFree:   10 kB\nBuffers: 1 kB\nCached: 2 kB\nDirty: x kB\nSwapCached: 7 kB\n\
                    WritebackTmp: 5 kB\nInactive(file): 4 kB\nInactive: 6 kB\n: 3\nrubbish\n";
        let expected = Meminfo { total: 9216, free: 10240, cache: 3072, inactive_file: 4096, ..Meminfo::default() };
        assert_eq!(Meminfo::parse(text), expected);
        let huge = format!("MemFree: {} kB", u64::MAX);
        assert_eq!(Meminfo::parse(&huge).free, u64::MAX);
    }
}
