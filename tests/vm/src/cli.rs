//! The `dormouse` binary as a user runs it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::lab::binary;

const PATIENCE: Duration = Duration::from_secs(240);

/// A `dormouse serve` of a scenario's own. Killed when this is dropped; its VMs go on.
pub struct Daemon {
    state: std::path::PathBuf,
    child: Child,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    pub async fn start(state: &Path) -> Self {
        Self::start_with(state, |command| command).await
    }

    /// The same with more on its command line, or in its environment.
    pub async fn start_with(state: &Path, with: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut daemon = Self::launch(state, with);
        for _ in 0..1200 {
            if daemon.cli(&["ls"]).await.code == Some(0) {
                return daemon;
            }
            if let Some(status) = daemon.child.try_wait().expect("look after the daemon") {
                panic!("the daemon ended with {status}");
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("the daemon does not answer");
    }

    /// Starts a daemon, which may not answer yet.
    #[must_use]
    pub fn start_without_waiting(state: &Path) -> Self {
        Self::launch(state, |command| command)
    }

    fn launch(state: &Path, with: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(binary("dormouse"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--state"]).arg(state);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = with(&mut command).spawn().expect("start the daemon");
        Self { state: state.to_owned(), child }
    }

    /// Runs a command against this daemon.
    pub async fn cli(&self, args: &[&str]) -> Ran {
        cli(&self.state, args).await
    }

    /// Runs a command that must succeed; gives its trimmed output.
    pub async fn ok(&self, args: &[&str]) -> String {
        let ran = self.cli(args).await;
        assert_eq!(ran.code, Some(0), "dormouse {args:?}: {}", ran.stderr);
        ran.stdout.trim().to_owned()
    }

    /// What phase a sandbox is in, or `gone`.
    pub async fn phase(&self, id: &str) -> String {
        let listed: serde_json::Value = serde_json::from_str(&self.ok(&["ls", "--json"]).await).expect("a list");
        let mine = listed.as_array().into_iter().flatten().find(|sandbox| sandbox["id"] == id);
        mine.and_then(|sandbox| sandbox["phase"].as_str()).unwrap_or("gone").to_owned()
    }

    /// Starts a command without waiting for it.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Child {
        command(&self.state, args).spawn().expect("start dormouse")
    }

    /// Ends the daemon as a crash does.
    pub async fn kill_dash_nine(mut self) {
        self.child.kill().await.expect("kill the daemon");
    }

    /// Waits until it has ended by itself, and tells how.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("the daemon does not end").expect("wait for the daemon")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the daemon lives")
    }
}

/// The QEMU processes that belong to a state folder, with or without a daemon.
#[must_use]
pub fn qemus_of(state: &Path) -> Vec<i32> {
    processes_of(state, "qemu-system")
}

/// The processes of a program that work on something below a state folder.
#[must_use]
pub fn processes_of(state: &Path, program: &str) -> Vec<i32> {
    let state = format!("{}/", state.display());
    let processes = std::fs::read_dir("/proc").expect("list processes").flatten();
    let pids = processes.filter_map(|process| process.file_name().to_string_lossy().parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains(program) && line.contains(&state)
    })
    .collect()
}

/// Runs a `dormouse` command on a state folder and waits for it.
pub(crate) async fn cli(state: &Path, args: &[&str]) -> Ran {
    let mut child = command(state, args).spawn().expect("start dormouse");
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let all = async {
        let _ = tokio::join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr));
        child.wait().await.expect("wait for dormouse")
    };
    let status = timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("dormouse {args:?} hangs"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn command(state: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary("dormouse"));
    command.args(args).env("DORMOUSE_STATE", state).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
