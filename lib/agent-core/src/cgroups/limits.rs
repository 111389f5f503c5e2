//! How a guest's CPU, memory and process numbers are shared between the agent and what users run.

/// Memory that is never reclaimed from the agent: what it may need under load.
const AGENT_MEMORY: u64 = 32 << 20;
/// Memory that user processes never get: the agent's, and what the kernel charges to nobody.
const MIN_RESERVE: u64 = 32 << 20;
const MAX_RESERVE: u64 = 128 << 20;
/// Fewest processes that users may have, however small the guest is.
const MIN_PROCESSES: u64 = 256;

/// What the kernel of this guest has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Memory in bytes.
    pub(super) memory: u64,
    /// Most threads that the kernel allows.
    pub(super) threads: u64,
}

/// One file of a cgroup directory and what is to be written there. Paths are below the root of the hierarchy.
pub(super) type Setting = (&'static str, String);

/// All settings, in the order in which they are written.
///
/// A CPU weight counts only while others want the CPU too: the agent then gets nearly all it asks for, which is little. The memory
/// bound is on the whole sandbox and below the memory of the guest, so that the OOM killer looks for its victim among user
/// processes, and takes one process and not a group. The bound on processes stays far below the kernel's, so that the agent can
/// always fork.
pub(super) fn settings(machine: Machine) -> Vec<Setting> {
    let reserve = (machine.memory / 8).clamp(MIN_RESERVE, MAX_RESERVE);
    let usable = machine.memory.saturating_sub(reserve).max(machine.memory / 2);
    let processes = (machine.threads / 2).max(MIN_PROCESSES);
    vec![
        ("system/cpu.weight", "10000".into()),
        ("system/io.weight", "default 10000".into()),
        ("system/memory.min", AGENT_MEMORY.min(machine.memory / 8).to_string()),
        ("sandbox/cpu.weight", "100".into()),
        ("sandbox/io.weight", "default 100".into()),
        ("sandbox/memory.max", usable.to_string()),
        ("sandbox/memory.oom.group", "0".into()),
        ("sandbox/pids.max", processes.to_string()),
        // Somebody waits at a terminal.
        ("sandbox/pty/cpu.weight", "200".into()),
        ("sandbox/pty/memory.oom.group", "0".into()),
        ("sandbox/user/cpu.weight", "100".into()),
        ("sandbox/user/memory.oom.group", "0".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(settings: &[Setting], file: &str) -> u64 {
        settings.iter().find(|(name, _)| *name == file).unwrap().1.parse().unwrap()
    }

    #[test]
    fn a_small_guest_keeps_64_mib_and_half_its_threads_for_itself() {
        let settings = settings(Machine { memory: 512 << 20, threads: 4000 });
        assert_eq!(number(&settings, "sandbox/memory.max"), (512 - 64) << 20);
        assert_eq!(number(&settings, "sandbox/pids.max"), 2000);
        assert_eq!(number(&settings, "system/memory.min"), 32 << 20);
    }

    proptest! {
        #[test]
        fn users_never_get_everything_and_never_less_than_half(memory in 1u64 << 20..1 << 46, threads in 0u64..1 << 22) {
            let settings = settings(Machine { memory, threads });
            let users = number(&settings, "sandbox/memory.max");
            prop_assert!(users < memory && users >= memory / 2);
            prop_assert!(number(&settings, "system/memory.min") < memory);
            prop_assert!(number(&settings, "sandbox/pids.max") >= 256);
        }
    }
}
