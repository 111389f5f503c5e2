//! What the host wants to know about this kernel to read its memory.

use crate::bounded_file;
use crate::proc::Meminfo;

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
            mem_free: memory().free,
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            boot_id: text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned(),
            checked_free_pages: checks_free_pages(&text("/proc/cmdline").unwrap_or_default()),
        }
    }
}

/// Memory as it is now; nothing of it where it cannot be read.
pub(super) fn memory() -> Meminfo {
    Meminfo::parse(&bounded_file::read("/proc/meminfo", MAX_FILE).unwrap_or_default())
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
        fn nonsense_is_no_failure(text in "(?s).{0,200}") {
            checks_free_pages(&text);
        }
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
