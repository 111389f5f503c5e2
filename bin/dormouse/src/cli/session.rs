//! A process in a sandbox, seen from this terminal.

use dormouse_agent_proto::process::process_event::data_event::Output;
use dormouse_agent_proto::process::process_event::{EndEvent, Event};
use dormouse_agent_proto::process::process_selector::Selector;
use dormouse_agent_proto::process::{
    ProcessConfig, ProcessSelector, SendSignalRequest, Signal, StartRequest, StartResponse,
};
use tokio::io::{AsyncWriteExt, stderr, stdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::guest::{Guest, call_failed};
use crate::command_error::{CommandError, CommandResult};

/// Events on the way to the terminal. Few, so that a slow terminal slows the process down.
const QUEUE: usize = 16;

/// What to start, and as whom and where.
#[derive(Debug, Default)]
pub(super) struct What {
    pub(super) command: Vec<String>,
    pub(super) cwd: Option<String>,
    pub(super) env: Vec<(String, String)>,
}

/// A started process whose output flows to standard output and error.
pub(super) struct Session {
    pid: u32,
    output: JoinHandle<CommandResult<EndEvent>>,
}

impl What {
    /// The request that starts it.
    pub(super) fn request(self, stdin: bool) -> CommandResult<StartRequest> {
        let mut words = self.command.into_iter();
        let cmd = words.next().ok_or_else(|| CommandError::usage("no command given"))?;
        let process = ProcessConfig {
            cmd,
            args: words.collect(),
            envs: self.env.into_iter().collect(),
            cwd: self.cwd,
            ..ProcessConfig::default()
        };
        Ok(StartRequest { process: process.into(), stdin: Some(stdin), ..StartRequest::default() })
    }
}

impl Session {
    /// Starts the process.
    pub(super) async fn start(guest: &Guest, request: StartRequest) -> CommandResult<Self> {
        let mut stream = guest.rpc.process.start(request).await.map_err(|e| call_failed(&e))?;
        let (events, mut received) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            loop {
                let event = match stream.message::<StartResponse>().await {
                    Ok(Some(message)) => Ok(message.to_owned_message().event.into_option().and_then(|e| e.event)),
                    Ok(None) => match stream.error() {
                        Some(error) => Err(call_failed(error)),
                        None => break,
                    },
                    Err(error) => Err(call_failed(&error)),
                };
                let last = event.is_err();
                if events.send(event).await.is_err() || last {
                    break;
                }
            }
        });
        let pid = match received.recv().await {
            Some(Ok(Some(Event::Start(start)))) => start.pid,
            Some(Err(error)) => return Err(error),
            _ => return Err(CommandError::internal(anyhow::Error::msg("the agent did not tell the process's id"))),
        };
        Ok(Self { pid, output: tokio::spawn(show(received)) })
    }

    /// Names the process in further calls.
    pub(super) fn selector(&self) -> ProcessSelector {
        ProcessSelector { selector: Some(Selector::Pid(self.pid)), ..ProcessSelector::default() }
    }

    /// Waits until the process has ended and its output is written. Can be dropped and called again.
    pub(super) async fn ended(&mut self) -> CommandResult<EndEvent> {
        (&mut self.output).await.map_err(CommandError::internal)?
    }

    /// Sends a signal to the process and those that it started. A process that is gone needs none.
    pub(super) async fn signal(&self, guest: &Guest, signal: Signal) {
        let request = SendSignalRequest {
            process: self.selector().into(),
            signal: signal.into(),
            ..SendSignalRequest::default()
        };
        let _ = guest.rpc.process.send_signal(request).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.output.abort();
    }
}

type Received = CommandResult<Option<Event>>;

/// Writes output as it comes, until the process ends.
async fn show(mut events: mpsc::Receiver<Received>) -> CommandResult<EndEvent> {
    while let Some(event) = events.recv().await {
        match event? {
            Some(Event::Data(data)) => match data.output {
                Some(Output::Stdout(bytes) | Output::Pty(bytes)) => write(&mut stdout(), &bytes).await?,
                Some(Output::Stderr(bytes)) => write(&mut stderr(), &bytes).await?,
                None => {}
            },
            Some(Event::End(end)) => return Ok(*end),
            _ => {}
        }
    }
    Err(CommandError::user("the sandbox went away before the command ended")
        .hint("`dormouse ls` tells what became of it"))
}

async fn write(to: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> CommandResult<()> {
    let what = "write the command's output";
    to.write_all(bytes).await.map_err(CommandError::io(what))?;
    to.flush().await.map_err(CommandError::io(what))
}
