//! What the host wants to know about this kernel to read its memory.

use crate::bounded_file;

/// The longest of the files is /proc/meminfo, with about 1.5 KiB; a command line has at most 4 KiB (`COMMAND_LINE_SIZE`).
const MAX_FILE: u64 = 16 << 10;

/// Facts of a prepare report.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) vmcoreinfo: Option<String>,
    pub(super) mem_free: u64,
    pub(super) kernel_release: String,
    pub(super) boot_id: String,
    pub(super) checked_free_pages: bool,
}

impl Facts {
    /// Reads them now. What cannot be read is empty or zero.
    pub(super) fn read() -> Self {
        let text = |path: &str| bounded_file::read(path, MAX_FILE).ok();
        Self {
            vmcoreinfo: text("/sys/kernel/vmcoreinfo"),
            mem_free: Memory::read().free,
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            boot_id: text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned(),
            checked_free_pages: checks_free_pages(&text("/proc/cmdline").unwrap_or_default()),
        }
    }
}

/// Figures of /proc/meminfo in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) free: u64,
    pub(super) cache: u64,
    pub(super) dirty: u64,
}

impl Memory {
    pub(super) fn read() -> Self {
        parse_meminfo(&bounded_file::read("/proc/meminfo", MAX_FILE).unwrap_or_default())
    }
}

pub(super) fn parse_meminfo(text: &str) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let kib: u64 = rest.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let bytes = kib.saturating_mul(1024);
        match key {
            "MemFree" => memory.free = bytes,
            "Cached" | "Buffers" => memory.cache = memory.cache.saturating_add(bytes),
            "Dirty" | "Writeback" => memory.dirty = memory.dirty.saturating_add(bytes),
            _ => {}
        }
    }
    memory
}

/// True when the command line turns on a check of free pages' content. Distributions build the checks in and leave them off; a kernel
/// with KASAN always checks, and is known by its boot option or, on the host, by its configuration.
pub(super) fn checks_free_pages(cmdline: &str) -> bool {
    cmdline.split_whitespace().any(|word| match word.split_once('=') {
        Some(("page_poison", value)) => matches!(value, "1" | "on" | "y" | "Y"),
        Some(("debug_pagealloc", value)) => value != "off" && value != "0",
        Some((key, value)) => (key == "kasan" || key.starts_with("kasan.")) && value != "off",
        None => matches!(word, "page_poison" | "debug_pagealloc"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nonsense_is_no_failure(text in "(?s).{0,200}", lines in "((MemFree|Cached|Buffers|Dirty):? {0,3}[0-9x]{0,22} ?(kB)?\n){0,6}") {
            let memory = parse_meminfo(&format!("{text}\n{lines}"));
            prop_assert!(memory.free == u64::MAX || memory.free.is_multiple_of(1024));
            checks_free_pages(&text);
        }
    }

    #[test]
    fn memory_is_read_in_bytes_and_nonsense_counts_as_zero() {
        let text = "MemTotal: 9 kB\nMemFree:   10 kB\nBuffers: 1 kB\nCached: 2 kB\nDirty: x kB\n: 3\nrubbish\n";
        assert_eq!(parse_meminfo(text), Memory { free: 10240, cache: 3072, dirty: 0 });
    }

    #[test]
    fn checked_free_pages_are_seen_on_the_command_line() {
        for on in ["a page_poison=1", "page_poison=on b", "debug_pagealloc=on", "kasan=on", "kasan.mode=sync"] {
            assert!(checks_free_pages(on), "{on}");
        }
        for off in ["", "quiet page_poison=0", "debug_pagealloc=off", "kasan=off", "nopage_poison=1"] {
            assert!(!checks_free_pages(off), "{off}");
        }
    }
}
