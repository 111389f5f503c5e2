//! From standard input to a process in a sandbox.

use dormouse_agent_proto::process::process_input::Input;
use dormouse_agent_proto::process::{CloseStdinRequest, ProcessInput, ProcessSelector, SendInputRequest};
use tokio::io::{AsyncReadExt, stdin};
use tokio::task::JoinHandle;

use super::guest::Guest;

const CHUNK: usize = 32 << 10;

/// Where input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A pipe, which is closed at the end of input.
    Pipe,
    /// A terminal.
    Terminal,
}

/// Passes input on until it ends, the process does, or this is dropped.
pub(super) struct Feed(JoinHandle<()>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to pass input on. One chunk at a time: a process that does not read stops it.
pub(super) fn feed(guest: &Guest, process: ProcessSelector, target: Target) -> Feed {
    let rpc = guest.rpc.clone();
    Feed(tokio::spawn(async move {
        let mut from = stdin();
        let mut buffer = vec![0u8; CHUNK];
        loop {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            let input = match target {
                Target::Pipe => Input::Stdin(bytes.to_vec()),
                Target::Terminal => Input::Pty(bytes.to_vec()),
            };
            let input = ProcessInput { input: Some(input), ..ProcessInput::default() };
            let request = SendInputRequest {
                process: process.clone().into(),
                input: input.into(),
                ..SendInputRequest::default()
            };
            // The process may have ended; its end is told elsewhere.
            if rpc.process.send_input(request).await.is_err() {
                return;
            }
        }
        if target == Target::Pipe {
            let request = CloseStdinRequest { process: process.into(), ..CloseStdinRequest::default() };
            let _ = rpc.process.close_stdin(request).await;
        }
    }))
}
