//! A real agent on an ephemeral port, and the smallest HTTP client that shows everything.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use connectrpc::ConnectError;
use dormouse_agent_core::{Agent, AgentOptions, Cgroups, Durations, Guest, listen, serve};
use dormouse_agent_proto::client::{AgentRpc, CallOptions};
use dormouse_agent_proto::process::{ProcessConfig, ProcessEvent, ProcessSelector, StartRequest};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_event::Event;
use dormouse_agent_proto::proto::process::__buffa::oneof::process_event::data_event::Output;
use dormouse_agent_proto::proto::process::__buffa::oneof::process_selector::Selector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "kernel.rs"]
mod kernel;
use kernel::NotingKernel;

/// Descriptors that each process may open.
pub(crate) const OPEN_FILES: u64 = 300;

/// For tests with as many watchers as there may be: a user may have only twice that many (fs.inotify.max_user_instances).
pub(crate) static MANY_WATCHERS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many times longer than usual everything takes here: who runs this in an emulated guest says so.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let told = std::env::var("DORMOUSE_TEST_SLOWNESS");
    told.map_or(1, |factor| factor.parse().expect("DORMOUSE_TEST_SLOWNESS is a whole number"))
});

/// A time limit that is `usual` on hardware.
pub(crate) fn stretched(usual: Duration) -> Duration {
    usual * *SLOWNESS
}

pub(crate) struct TestAgent {
    pub(crate) address: SocketAddr,
    pub(crate) home: PathBuf,
    pub(crate) rpc: AgentRpc,
    pub(crate) kernel: NotingKernel,
    _dir: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn has(&self, header: &str) -> bool {
        self.head.to_ascii_lowercase().contains(&header.to_ascii_lowercase())
    }
}

/// An agent whose only user is `tester`: the user that runs the test.
pub(crate) async fn agent() -> TestAgent {
    agent_with(Durations::default(), false).await
}

/// `guest` gives it an overlay directory, imitated cgroups and a root in the test's directory, and a kernel that only takes notes.
pub(crate) async fn agent_with(durations: Durations, guest: bool) -> TestAgent {
    start(durations, guest, None).await
}

/// An agent that makes servers of the loopback reachable on `address`.
pub(crate) async fn agent_at(address: IpAddr) -> TestAgent {
    start(Durations::default(), false, Some(address)).await
}

async fn start(durations: Durations, guest: bool, address: Option<IpAddr>) -> TestAgent {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let cgroups = Cgroups { pty: dir.path().join("pty"), user: dir.path().join("user") };
    for cgroup in [&cgroups.pty, &cgroups.user] {
        std::fs::create_dir(cgroup).unwrap();
        for (file, content) in [("procs", ""), ("freeze", ""), ("events", "populated 1\nfrozen 1\n")] {
            std::fs::write(cgroup.join(format!("cgroup.{file}")), content).unwrap();
        }
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    std::fs::write(
        dir.path().join("passwd"),
        format!("tester:x:{uid}:{gid}::{}:/bin/sh\nguest:x:4321:4322::/usr:/bin/sh\n", home.display()),
    )
    .unwrap();
    std::fs::write(dir.path().join("group"), format!("testers:x:{gid}:\nguests:x:4322:\nextra:x:4323:guest\n"))
        .unwrap();
    let mut options = AgentOptions::plain("tester");
    options.passwd = dir.path().join("passwd");
    options.group = dir.path().join("group");
    options.durations = durations;
    options.guest_addresses = address.into_iter().collect();
    options.open_files = Some(OPEN_FILES);
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let kernel = NotingKernel::new(dir.path().join("user/cgroup.freeze"));
    options.guest = guest.then(|| Guest {
        overlay: home.clone(),
        cgroups,
        root: dir.path().to_owned(),
        kernel: std::sync::Arc::new(kernel.clone()),
    });
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(Agent::new(options), listener));
    let rpc = AgentRpc::new(format!("http://{address}").parse().unwrap(), []).unwrap();
    TestAgent { address, home, rpc, kernel, _dir: dir }
}

impl TestAgent {
    /// A file of the imitated cgroup of processes without a terminal.
    pub(crate) fn cgroup_file(&self, name: &str) -> PathBuf {
        self.home.parent().unwrap().join("user").join(name)
    }

    /// A file of the imitated cgroup of processes with a terminal.
    pub(crate) fn pty_cgroup_file(&self, name: &str) -> PathBuf {
        self.home.parent().unwrap().join("pty").join(name)
    }

    /// Where a guest's files are.
    pub(crate) fn root(&self) -> &std::path::Path {
        self.home.parent().unwrap()
    }

    /// One request on a connection of its own. `headers` are whole lines.
    pub(crate) async fn http(&self, request: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        if !headers.iter().any(|h| h.starts_with("content-length")) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // The agent may answer before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP head");
        let head = String::from_utf8(answer[..at].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: answer[at + 4..].to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.http(&format!("GET {path}"), &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.http(&format!("POST {path}"), &[], body.as_bytes()).await
    }

    /// Runs `script` to its end.
    pub(crate) async fn sh(&self, script: &str) -> Ran {
        self.run(shell(script)).await.unwrap()
    }

    pub(crate) async fn run(&self, request: StartRequest) -> Result<Ran, ConnectError> {
        self.run_with(request, CallOptions::default()).await
    }

    pub(crate) async fn run_with(&self, request: StartRequest, options: CallOptions) -> Result<Ran, ConnectError> {
        let mut stream = self.rpc.process.start_with_options(request, options).await?;
        let mut ran = Ran::default();
        while let Some(message) = stream.message().await? {
            ran.take(message.to_owned_message().event.into_option().unwrap());
        }
        Ok(ran)
    }
}

/// `sh -c script`, without standard input.
pub(crate) fn shell(script: &str) -> StartRequest {
    StartRequest {
        process: ProcessConfig { cmd: "/bin/sh".into(), args: vec!["-c".into(), script.into()], ..Default::default() }
            .into(),
        stdin: Some(false),
        ..Default::default()
    }
}

pub(crate) fn by_pid(pid: u32) -> ProcessSelector {
    ProcessSelector { selector: Some(Selector::Pid(pid)), ..Default::default() }
}

pub(crate) fn by_tag(tag: &str) -> ProcessSelector {
    ProcessSelector { selector: Some(Selector::Tag(tag.into())), ..Default::default() }
}

/// What a stream told, in its order.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) pid: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) pty: String,
    pub(crate) largest: usize,
    pub(crate) keepalives: usize,
    pub(crate) exit_code: Option<i32>,
    pub(crate) status: String,
}

impl Ran {
    pub(crate) fn take(&mut self, event: ProcessEvent) {
        assert_eq!(self.exit_code, None, "something after the end");
        match event.event.unwrap() {
            Event::Start(start) => {
                assert_eq!(self.pid, 0, "started twice");
                self.pid = start.pid;
            }
            Event::Data(data) => {
                assert_ne!(self.pid, 0, "data before the start");
                let (sink, bytes) = match data.output.unwrap() {
                    Output::Stdout(bytes) => (&mut self.stdout, bytes),
                    Output::Stderr(bytes) => (&mut self.stderr, bytes),
                    Output::Pty(bytes) => (&mut self.pty, bytes),
                };
                self.largest = self.largest.max(bytes.len());
                sink.push_str(&String::from_utf8_lossy(&bytes));
            }
            Event::Keepalive(_) => self.keepalives += 1,
            Event::End(end) => {
                self.exit_code = Some(end.exit_code);
                self.status.clone_from(&end.status);
            }
        }
    }
}

/// A stream that is read as far as a test wants.
pub(crate) struct Live<S> {
    pub(crate) ran: Ran,
    stream: S,
}

macro_rules! live {
    ($opened:expr) => {{
        let mut live = $crate::support::Live::new($opened.await.unwrap());
        live.until(|ran| ran.pid != 0).await;
        live
    }};
}
pub(crate) use live;

impl<S: Messages> Live<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { ran: Ran::default(), stream }
    }

    /// Reads on until `enough`, at most 10 s, stretched.
    pub(crate) async fn until(&mut self, enough: impl Fn(&Ran) -> bool) {
        let reading = async {
            while !enough(&self.ran) {
                let event = self.stream.next().await.unwrap_or_else(|| panic!("stream ended at {:?}", self.ran));
                self.ran.take(event);
            }
        };
        let in_time = tokio::time::timeout(stretched(Duration::from_secs(10)), reading).await;
        assert!(in_time.is_ok(), "not in time: {:?}", self.ran);
    }

    pub(crate) async fn end(mut self) -> Ran {
        self.until(|ran| ran.exit_code.is_some()).await;
        self.ran
    }
}

/// Streams of process events, of Start and of Connect.
pub(crate) trait Messages {
    async fn next(&mut self) -> Option<ProcessEvent>;
}

macro_rules! messages {
    ($view:ident, $message:ident) => {
        impl<B> Messages
            for connectrpc::client::ServerStream<B, dormouse_agent_proto::proto::process::__buffa::view::$view<'static>>
        where
            B: connectrpc::http_body::Body<Data = bytes::Bytes> + Unpin,
            B::Error: std::fmt::Display,
        {
            async fn next(&mut self) -> Option<ProcessEvent> {
                let message = self.message().await.unwrap()?;
                let owned: dormouse_agent_proto::process::$message = message.to_owned_message();
                owned.event.into_option()
            }
        }
    };
}
messages!(StartResponseView, StartResponse);
messages!(ConnectResponseView, ConnectResponse);

/// Waits until `holds`, at most 10 s, stretched.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 * *SLOWNESS {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
