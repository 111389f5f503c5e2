//! One process from start to end.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dormouse_agent_proto::process::ProcessConfig;
use dormouse_agent_sys::TerminalSize;
use rustix::process::{Pid, Signal};
use thiserror::Error;
use tokio::process::Child;
use tokio::sync::watch;

use super::children::Children;
use super::event::{End, Event, Source};
use super::output::Output;
use super::pipe::Endpoint;

/// Largest piece of output in one event, of a pipe and of a terminal.
const PIPE_CHUNK: usize = 32 * 1024;
const TERMINAL_CHUNK: usize = 16 * 1024;
/// What an ended process can have left in a pipe: the largest pipe an unprivileged process can ask for.
const MAX_LEFT: usize = 1 << 20;

/// Where input goes.
#[derive(Debug)]
pub(super) enum Input {
    None,
    Stdin(Endpoint),
    Pty(Endpoint),
}

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum InputError {
    #[error("standard input is not open")]
    NoStdin,
    #[error("the process has no terminal")]
    NoPty,
    #[error("cannot write to the process: {0}")]
    Write(String),
}

/// A started process. It may have ended; then it can only be followed.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) tag: Option<String>,
    pub(super) config: ProcessConfig,
    pub(super) output: Output,
    input: Mutex<Input>,
    /// One writer at a time, so that inputs do not mix.
    writing: tokio::sync::Mutex<()>,
    ended: watch::Sender<bool>,
}

impl Running {
    pub(super) fn new(pid: u32, tag: Option<String>, config: ProcessConfig, input: Input) -> Self {
        Self {
            pid,
            tag,
            config,
            output: Output::default(),
            input: Mutex::new(input),
            writing: tokio::sync::Mutex::default(),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn stdin(&self) -> Result<Endpoint, InputError> {
        match &*self.input.lock().unwrap_or_else(PoisonError::into_inner) {
            Input::Stdin(endpoint) => Ok(endpoint.clone()),
            Input::None | Input::Pty(_) => Err(InputError::NoStdin),
        }
    }

    fn pty(&self) -> Result<Endpoint, InputError> {
        match &*self.input.lock().unwrap_or_else(PoisonError::into_inner) {
            Input::Pty(endpoint) => Ok(endpoint.clone()),
            Input::None | Input::Stdin(_) => Err(InputError::NoPty),
        }
    }

    /// Writes all of it, waiting until the process has taken it or ended.
    pub(super) async fn write_stdin(&self, bytes: &[u8]) -> Result<(), InputError> {
        let endpoint = self.stdin()?;
        self.write(&endpoint, bytes).await
    }

    /// Like [`Self::write_stdin`], to the terminal.
    pub(super) async fn write_pty(&self, bytes: &[u8]) -> Result<(), InputError> {
        let endpoint = self.pty()?;
        self.write(&endpoint, bytes).await
    }

    async fn write(&self, endpoint: &Endpoint, bytes: &[u8]) -> Result<(), InputError> {
        let _one = self.writing.lock().await;
        let mut ended = self.ended.subscribe();
        tokio::select! {
            written = endpoint.write_all(bytes) => written.map_err(|error| InputError::Write(error.to_string())),
            _ = ended.wait_for(|ended| *ended) => Err(InputError::Write("the process has ended".into())),
        }
    }

    pub(super) fn close_stdin(&self) -> Result<(), InputError> {
        self.stdin()?;
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Input::None;
        Ok(())
    }

    pub(super) fn resize(&self, size: TerminalSize) -> Result<(), InputError> {
        dormouse_agent_sys::resize(self.pty()?.fd(), size).map_err(|error| InputError::Write(error.to_string()))
    }

    /// Signals the whole process group.
    pub(super) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::kill_process_group(pid, signal)?)
    }

    /// Sees the process to its end: passes output on, kills it after `limit`, reaps it. Output comes before the end.
    ///
    /// The end is told when the process itself has exited and what it wrote is passed on. Descendants that keep its output open do
    /// not hold the end back; what they write afterwards is read, so that they do not break, and dropped.
    pub(super) async fn supervise(
        self: &Arc<Self>,
        children: &Children,
        mut child: Child,
        sources: Vec<(Source, Endpoint)>,
        limit: Option<Duration>,
    ) {
        let pumps: Vec<_> = sources
            .into_iter()
            .map(|(source, endpoint)| tokio::spawn(Arc::clone(self).pump(source, endpoint)))
            .collect();
        let (status, overdue) = self.wait(&mut child, limit).await;
        children.reaped(self.pid);
        self.ended.send_replace(true);
        for pump in pumps {
            // A pump neither panics nor is it aborted.
            let _ = pump.await;
        }
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Input::None;
        let mut end = status.map_or_else(|error| End::unknown(&error), End::of);
        end.overdue = overdue;
        self.output.end(end).await;
    }

    /// How it ended, and whether its time limit had passed by then.
    async fn wait(&self, child: &mut Child, limit: Option<Duration>) -> (std::io::Result<ExitStatus>, bool) {
        if let Some(limit) = limit {
            match tokio::time::timeout(limit, child.wait()).await {
                Ok(status) => return (status, false),
                // Not reaped yet, so the pid is still its own.
                Err(_) => {
                    if let Err(error) = self.signal(Signal::KILL) {
                        return (Err(error), true);
                    }
                }
            }
            return (child.wait().await, true);
        }
        (child.wait().await, false)
    }

    async fn pump(self: Arc<Self>, source: Source, endpoint: Endpoint) {
        let mut buffer = vec![0; if source == Source::Pty { TERMINAL_CHUNK } else { PIPE_CHUNK }];
        let mut ended = self.ended.subscribe();
        loop {
            let read = tokio::select! {
                read = endpoint.read(&mut buffer) => read,
                _ = ended.wait_for(|ended| *ended) => break,
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(n) => self.pass_on(source, &buffer, n).await,
            }
        }
        let mut left = MAX_LEFT;
        while let Ok(n @ 1..) = endpoint.read_now(&mut buffer) {
            self.pass_on(source, &buffer, n).await;
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
        tokio::spawn(discard(endpoint));
    }

    async fn pass_on(&self, source: Source, buffer: &[u8], n: usize) {
        let chunk = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
        self.output.publish(Event::Data(source, chunk)).await;
    }
}

/// Reads to the end for those who still write.
async fn discard(endpoint: Endpoint) {
    let mut buffer = vec![0; 4096];
    while let Ok(1..) = endpoint.read(&mut buffer).await {}
}
