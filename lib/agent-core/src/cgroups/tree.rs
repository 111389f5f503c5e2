//! Making the cgroups of a guest.

use std::fs;
use std::io;
use std::path::Path;

use super::Cgroups;
use super::limits::{Machine, settings};

/// Controllers that are used where the kernel has them. Without `cpu` and `memory` only freezing and counting work.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];
/// Directories in whose children the controllers are to work.
const PARENTS: [&str; 2] = ["", "sandbox"];
/// What is assumed where the kernel does not tell: few enough for any.
const UNKNOWN_THREADS: u64 = 2048;

/// The cgroups below `root`, with the calling process in `system`. To be called before it has threads or children: both stay where
/// they are.
///
/// Only the directories are essential. Whatever else the kernel refuses is told to `complain` and passed over: a guest with a weak
/// bound is better than none.
pub(crate) fn make(root: &Path, mut complain: impl FnMut(&str)) -> io::Result<Cgroups> {
    let cgroups = Cgroups { pty: root.join("sandbox/pty"), user: root.join("sandbox/user") };
    let system = root.join("system");
    for directory in cgroups.all().into_iter().chain([system.as_path()]) {
        fs::create_dir_all(directory)?;
    }
    let mut write = |path: &Path, value: &str| {
        if let Err(error) = fs::write(path, value) {
            complain(&format!("cannot write '{value}' to {}: {error}", path.display()));
        }
    };
    write(&system.join("cgroup.procs"), "0");
    let has = controllers(&fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default());
    for parent in PARENTS {
        // One by one, since one that is refused would make the kernel refuse all.
        for controller in &has {
            write(&root.join(parent).join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    for (file, value) in settings(machine()) {
        let path = root.join(file);
        // A controller or a policy of it that this kernel lacks has no file.
        if path.exists() {
            write(&path, &value);
        }
    }
    Ok(cgroups)
}

/// Those of [`CONTROLLERS`] that `available`, a `cgroup.controllers` file, lists.
fn controllers(available: &str) -> Vec<&'static str> {
    CONTROLLERS.into_iter().filter(|wanted| available.split_whitespace().any(|name| name == *wanted)).collect()
}

fn machine() -> Machine {
    let info = rustix::system::sysinfo();
    let memory = info.totalram.saturating_mul(u64::from(info.mem_unit).max(1));
    let limit = |file: &str| fs::read_to_string(file).ok()?.trim().parse().ok();
    let threads = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"].into_iter().filter_map(limit).min();
    Machine { memory, threads: threads.unwrap_or(UNKNOWN_THREADS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, read_to_string, write};

    #[test]
    fn only_controllers_that_the_kernel_has_are_asked_for() {
        assert_eq!(controllers("cpuset cpu io hugetlb memory\n"), ["cpu", "memory", "io"]);
        assert!(controllers("").is_empty());
    }

    /// A directory in which everything can be written, as cgroup files are there from the start in a real hierarchy.
    fn imitation(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["system", "sandbox/pty", "sandbox/user"] {
            create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in files {
            write(root.path().join(file), "").unwrap();
        }
        root
    }

    #[test]
    fn the_agent_goes_to_system_and_users_are_bounded() {
        let root =
            imitation(&["system/cpu.weight", "sandbox/memory.max", "sandbox/pids.max", "sandbox/pty/cpu.weight"]);
        write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let mut complaints = Vec::new();
        let cgroups = make(root.path(), |complaint| complaints.push(complaint.to_owned())).unwrap();
        assert_eq!(complaints, Vec::<String>::new());
        let read = |file: &str| read_to_string(root.path().join(file)).unwrap();
        assert_eq!(read("system/cgroup.procs"), "0");
        assert_eq!(read("system/cpu.weight"), "10000");
        assert_eq!(read("sandbox/pty/cpu.weight"), "200");
        assert!(read("sandbox/memory.max").parse::<u64>().unwrap() < machine().memory);
        assert!(read("sandbox/pids.max").parse::<u64>().unwrap() > 0);
        // The last one written stands in a plain file; a cgroup adds them up.
        assert_eq!(
            (read("cgroup.subtree_control"), read("sandbox/cgroup.subtree_control")),
            ("+pids".into(), "+pids".into())
        );
        assert!(!root.path().join("sandbox/io.weight").exists());
        assert!(cgroups.pty.is_dir() && cgroups.user.is_dir() && cgroups.pty != cgroups.user);
    }

    #[test]
    fn what_the_kernel_refuses_is_told_and_passed_over() {
        let root = imitation(&["sandbox/pids.max"]);
        create_dir_all(root.path().join("sandbox/memory.max")).unwrap();
        let mut complaints = Vec::new();
        make(root.path(), |complaint| complaints.push(complaint.to_owned())).unwrap();
        assert!(complaints.len() == 1 && complaints[0].contains("memory.max"), "{complaints:?}");
        assert_ne!(read_to_string(root.path().join("sandbox/pids.max")).unwrap(), "");
    }
}
