//! Runs the programs that builds are made of: in a process group of their own, watched, killed on cancel.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::AtPath;
use crate::{BuildError, Progress};

const POLL: Duration = Duration::from_millis(30);
/// How much of a program's messages goes into an error.
const TAIL_LINES: usize = 12;
/// How much of a program's messages is looked at in one go.
const CHUNK: u64 = 64 << 10;
/// How much of a program's answer is read.
const MAX_ANSWER: u64 = 64 << 20;

/// A program to run. It dies with the thread that runs it, also when this process is killed.
pub(crate) struct Tool<'a> {
    name: &'static str,
    package: &'static str,
    hint: &'static str,
    command: Command,
    scratch: &'a Path,
    on_line: Option<&'a dyn Fn(&str)>,
}

/// What the daemon may have in its environment and programs of a root file system have no business with.
const SECRETS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

impl<'a> Tool<'a> {
    /// `package` is where to get the program; `scratch` an existing folder for its output.
    pub(crate) fn new(name: &'static str, package: &'static str, scratch: &'a Path) -> Self {
        Self::wrapped(&[], name, package, scratch)
    }

    /// A program that mounts and starts daemons of its own: it gets a mount and a process namespace, so that whatever
    /// it mounted or started is gone when it is. Needs root.
    pub(crate) fn enclosed(name: &'static str, package: &'static str, scratch: &'a Path) -> Self {
        let wrapper = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--"];
        Self::wrapped(&wrapper, name, package, scratch)
    }

    fn wrapped(wrapper: &[&str], name: &'static str, package: &'static str, scratch: &'a Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(wrapper).arg(name);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").env("TMPDIR", scratch);
        for secret in SECRETS {
            command.env_remove(secret);
        }
        command.stdin(Stdio::null()).current_dir(scratch).process_group(0);
        Self { name, package, hint: "", command, scratch, on_line: None }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What to try when it fails.
    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// Is given each line of its messages soon after it was written.
    pub(crate) fn on_line(mut self, on_line: &'a dyn Fn(&str)) -> Self {
        self.on_line = Some(on_line);
        self
    }

    /// Runs it to its end and gives what it wrote to standard output, at most 64 MiB.
    ///
    /// # Errors
    /// It is not installed, failed, wrote too much, or the build was cancelled; then its process group is dead.
    pub(crate) fn run(mut self, progress: &dyn Progress) -> Result<Vec<u8>, BuildError> {
        if !is_installed(self.name) {
            return Err(BuildError::ToolMissing { tool: self.name, package: self.package });
        }
        let answer = self.scratch.join(format!("{}.out", self.name));
        let log = self.scratch.join(format!("{}.log", self.name));
        self.command.stdout(File::create(&answer).at(&answer)?).stderr(File::create(&log).at(&log)?);
        let mut messages = Messages { file: File::open(&log).at(&log)?, partial: String::new(), tail: Vec::new() };
        let child = match self.command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BuildError::ToolMissing { tool: "setpriv", package: "util-linux" });
            }
            child => child.at(Path::new(self.name))?,
        };
        let status = self.watch(child, &mut messages, progress)?;
        if !status.success() {
            return Err(self.failure(status.to_string(), messages.into_tail()));
        }
        let mut bytes = Vec::new();
        File::open(&answer).and_then(|file| file.take(MAX_ANSWER + 1).read_to_end(&mut bytes)).at(&answer)?;
        if bytes.len() as u64 > MAX_ANSWER {
            return Err(self.failure("stopped".to_owned(), "it wrote more than 64 MiB".to_owned()));
        }
        for path in [&answer, &log] {
            fs::remove_file(path).at(path)?;
        }
        Ok(bytes)
    }

    fn watch(&self, child: Child, messages: &mut Messages, progress: &dyn Progress) -> Result<ExitStatus, BuildError> {
        let mut group = Group(child);
        loop {
            let ended = group.0.try_wait().at(Path::new(self.name))?;
            messages.follow(&|line| self.on_line.iter().for_each(|on_line| on_line(line)));
            if let Some(status) = ended {
                return Ok(status);
            }
            progress.go_on()?;
            thread::sleep(POLL);
        }
    }

    fn failure(&self, status: String, tail: String) -> BuildError {
        BuildError::Tool { tool: self.name, status, tail, hint: self.hint }
    }
}

/// A running process group, killed when dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // The group may outlive its leader, so it is killed even when the leader ended by itself. Nothing can be
        // done about a group that is gone already.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The messages of a running program, followed through the file that they are written to.
struct Messages {
    file: File,
    partial: String,
    tail: Vec<String>,
}

impl Messages {
    fn follow(&mut self, on_line: &dyn Fn(&str)) {
        let mut bytes = Vec::new();
        // Messages are for people only: if they cannot be read, the program's exit status still counts.
        if (&self.file).take(CHUNK).read_to_end(&mut bytes).is_err() {
            return;
        }
        self.partial.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((line, rest)) = self.partial.split_once('\n') {
            on_line(line);
            self.tail.push(line.to_owned());
            self.partial = rest.to_owned();
        }
        if self.partial.len() as u64 > CHUNK {
            self.partial.clear();
        }
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_LINES));
    }

    fn into_tail(mut self) -> String {
        // A program that wrote a lot at its end: only the end matters.
        let _ = self.file.metadata().and_then(|meta| {
            let here = self.file.stream_position()?;
            self.file.seek(SeekFrom::Start(here.max(meta.len().saturating_sub(CHUNK))))
        });
        self.follow(&|_| {});
        self.tail.push(self.partial);
        self.tail.join("\n").trim().to_owned()
    }
}

/// Whether one of the usual folders has the program.
fn is_installed(name: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(name).exists())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;
    use crate::Silent;

    struct CancelAfter(Instant, Duration);

    impl Progress for CancelAfter {
        fn step(&self, _text: &str) {}
        fn advance(&self, _done: u64, _total: Option<u64>) {}
        fn cancelled(&self) -> bool {
            self.0.elapsed() > self.1
        }
    }

    #[test]
    fn a_failing_program_is_told_with_its_last_lines_and_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Mutex::new(Vec::new());
        let on_line = |line: &str| seen.lock().unwrap().push(line.to_owned());
        let script = "seq 1 5000 >&2; printf 'no such mirror' >&2; exit 3";
        let tool = Tool::new("sh", "dash", dir.path()).args(["-c", script]).hint("; is it there?").on_line(&on_line);
        let error = tool.run(&Silent).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("5000\nno such mirror; is it there?"), "{error}");
        assert!(!error.contains("4000"), "only the end is told: {error}");
        assert!(!seen.lock().unwrap().is_empty());
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let error = Tool::new("no-such-tool", "its-package", dir.path()).run(&Silent).unwrap_err();
        assert!(error.to_string().contains("install the package its-package"));
    }

    const CHILD: &str = "command::tests::no_program_inherits_what_requests_to_the_store_are_signed_with";

    /// What a program sees cannot be told from within the process that has it: the test runs itself again with secrets.
    #[test]
    fn no_program_inherits_what_requests_to_the_store_are_signed_with() {
        if std::env::var_os("AWS_SESSION_TOKEN").is_some_and(|token| token == "hush") {
            let dir = tempfile::tempdir().unwrap();
            for tool in [Tool::new, Tool::enclosed] {
                let seen = tool("env", "coreutils", dir.path()).env("ITS_OWN", "told").run(&Silent).unwrap();
                let seen = String::from_utf8(seen).unwrap();
                assert!(seen.contains("ITS_OWN=told") && seen.contains("INHERITED=too"), "{seen}");
                assert!(!seen.contains("hush"), "{seen}");
            }
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", CHILD, "--nocapture"]).env("INHERITED", "too");
        let ended = child.envs(SECRETS.map(|name| (name, "hush"))).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"));
    }

    #[test]
    fn cancelling_kills_the_program_and_its_children_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let script = "sleep 4711 & echo $! > child; wait";
        let start = Instant::now();
        let cancel = CancelAfter(start, Duration::from_millis(300));
        let error = Tool::new("sh", "dash", dir.path()).args(["-c", script]).run(&cancel).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled));
        assert!(start.elapsed() < Duration::from_secs(5));
        let child = fs::read_to_string(dir.path().join("child")).unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let gone = || state().is_empty() || state().contains(") Z ");
        let deadline = Instant::now() + Duration::from_secs(5);
        while !gone() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        assert!(gone(), "the child survived: {}", state());
    }
}
