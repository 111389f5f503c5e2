//! An agent that runs for as long as the bench does.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dormouse_guest_mem::Bytes;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent that `cargo xtask dist` made, as a plain process. Ends with this value.
pub(super) struct RunningAgent {
    child: Child,
    binary: PathBuf,
    pub(super) address: SocketAddr,
}

impl RunningAgent {
    pub(super) fn start() -> anyhow::Result<Self> {
        let binary = crate::target_dir().join("dist/dormouse-agent");
        if !binary.is_file() {
            bail!("{} is missing: run `cargo xtask dist` first", binary.display());
        }
        // Another program could take the port before the agent does; then the agent says so and ends.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listen = address.to_string();
        let child = Command::new(&binary).args(["--no-vm", "--listen", &listen]).spawn().context("start the agent")?;
        let mut agent = Self { child, binary, address };
        agent.wait_until_it_listens()?;
        Ok(agent)
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended at once: {status}");
            }
            if begin.elapsed() > PATIENCE {
                bail!("the agent does not listen on {}", self.address);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(super) fn binary_size(&self) -> anyhow::Result<Bytes> {
        Ok(Bytes(self.binary.metadata()?.len()))
    }

    /// CPU time of all its threads, those that have ended too.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        dormouse_host_sys::cpu_time_of(self.child.id()).context("the agent is gone")
    }

    pub(super) fn memory(&self) -> anyhow::Result<Bytes> {
        self.status("VmRSS:")
    }

    pub(super) fn peak_memory(&self) -> anyhow::Result<Bytes> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<Bytes> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Bytes(kib << 10))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).context("the agent is gone")
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
