//! A way into a guest: commands through its agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dormouse_agent_proto::client::{AgentRpc, CallOptions};
use dormouse_agent_proto::process::process_event::{Event, data_event};
use dormouse_agent_proto::process::{PTY, ProcessConfig, StartRequest};
use dormouse_lifecycle::{Host, SandboxId};

/// Nothing that a scenario runs in a guest takes longer, also under emulation on a busy machine. The guest counts it with its
/// own clock, which may run several times too fast there.
const PATIENCE: Duration = Duration::from_secs(900);

/// A running guest.
pub struct Guest {
    /// Its agent's services.
    pub rpc: AgentRpc,
    /// Where its agent answers.
    pub base: String,
    /// The token that it wants.
    pub token: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code.
    pub code: i32,
}

impl Guest {
    /// The guest of a running sandbox.
    pub async fn of(host: &Host, id: &SandboxId) -> Self {
        let endpoint = host.endpoint(id).await.expect("reach the agent");
        Self::at(format!("http://{}", endpoint.addr), endpoint.token.expose().to_owned())
    }

    /// The guest whose agent answers at `base`; an empty token for one that was given none.
    #[must_use]
    pub fn at(base: String, token: String) -> Self {
        let headers = [("x-access-token", token.as_str()), ("authorization", "Basic cm9vdDo=")];
        let given = headers.iter().copied().filter(|(_, value)| !value.is_empty());
        let rpc = AgentRpc::new(base.parse().expect("an address"), given).expect("headers");
        Self { rpc, base, token }
    }

    /// Runs a shell command as root and waits for it.
    pub async fn run(&self, command: &str) -> Output {
        self.start(command, None).await
    }

    /// Runs a shell command as root on a terminal of its own; all that it prints is standard output.
    pub async fn run_on_terminal(&self, command: &str) -> Output {
        self.start(command, Some(PTY::default())).await
    }

    async fn start(&self, command: &str, pty: Option<PTY>) -> Output {
        let config =
            ProcessConfig { cmd: "/bin/bash".into(), args: vec!["-c".into(), command.into()], ..Default::default() };
        let request =
            StartRequest { process: config.into(), stdin: Some(false), pty: pty.into(), ..Default::default() };
        let options = CallOptions::default().with_timeout(PATIENCE);
        let mut events = self
            .rpc
            .process
            .start_with_options(request, options)
            .await
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let (mut stdout, mut stderr, mut code) = (Vec::new(), Vec::new(), None);
        while let Some(message) = events.message().await.unwrap_or_else(|e| panic!("output of {command:?}: {e}")) {
            let message = message.to_owned_message();
            match message.event.into_option().and_then(|e| e.event) {
                Some(Event::Data(data)) => match data.output {
                    Some(data_event::Output::Stdout(bytes) | data_event::Output::Pty(bytes)) => {
                        stdout.extend_from_slice(&bytes)
                    }
                    Some(data_event::Output::Stderr(bytes)) => stderr.extend_from_slice(&bytes),
                    _ => {}
                },
                Some(Event::End(end)) => code = Some(end.exit_code),
                _ => {}
            }
        }
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Output { stdout, stderr, code: code.unwrap_or_else(|| panic!("{command:?} never ended")) }
    }

    /// Puts a file of this machine into the guest.
    pub async fn upload(&self, file: &Path, to: &str) {
        let url = format!("{}/files?username=root&path={to}", self.base);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sf", "-m", "240", "-H", "content-type: application/octet-stream", "-X", "POST", "--data-binary"]);
        curl.arg(format!("@{}", file.display())).args(["-o", "/dev/null", &url]);
        if !self.token.is_empty() {
            curl.arg("-H").arg(format!("x-access-token: {}", self.token));
        }
        assert!(curl.status().await.is_ok_and(|status| status.success()), "upload {}", file.display());
    }

    /// Gets the guest ready for a snapshot, its page cache treated by `cache`.
    pub async fn prepare(&self, cache: &str) {
        let body = serde_json::json!({"cache": cache, "freeze": true, "trim": true, "budgetMs": 60_000});
        self.post("snapshot/prepare", &body.to_string()).await;
    }

    /// Calls that off. What was flushed, drained and dropped stays so, and commands can be run again.
    pub async fn abort_prepare(&self) {
        self.post("snapshot/abort", "").await;
    }

    async fn post(&self, path: &str, body: &str) {
        let url = format!("{}/{path}", self.base);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sf", "-m", "90", "-o", "/dev/null", "-d", body, &url]);
        if !self.token.is_empty() {
            curl.arg("-H").arg(format!("x-access-token: {}", self.token));
        }
        assert!(curl.status().await.is_ok_and(|status| status.success()), "{path}");
    }

    /// Its agent's figures, by their names with labels.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.ask("/metrics", &["-H", "accept: text/plain"]).await;
        let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        values.map(|(name, value)| (name.to_owned(), value.parse().expect("a figure"))).collect()
    }

    /// Lets its agent give memory of an idle guest back, or not.
    pub async fn let_reclaim(&self, reclaim: bool) {
        self.init(&format!("{{\"reclaim\":{reclaim}}}")).await;
    }

    /// Tells its agent what stands in `body`.
    pub async fn init(&self, body: &str) {
        self.ask("/init", &["-d", body]).await;
    }

    async fn ask(&self, path: &str, arguments: &[&str]) -> String {
        let token = format!("x-access-token: {}", self.token);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "-f", "-m", "60", "-H", &token]).args(arguments).arg(format!("{}{path}", self.base));
        let answer = curl.output().await.expect("run curl");
        let why = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{path}: {why}");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    /// Runs a command that must succeed; gives its trimmed output.
    pub async fn sh(&self, command: &str) -> String {
        let out = self.run(command).await;
        assert_eq!(out.code, 0, "{command:?} failed: {} {}", String::from_utf8_lossy(&out.stdout), out.stderr);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}
