//! Starting a process.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dormouse_agent_proto::process::{PTY, StartRequest};
use dormouse_agent_sys::TerminalSize;
use rustix::pipe::PipeFlags;
use thiserror::Error;
use tokio::io::Interest;
use tokio::process::Command;
use tokio::sync::mpsc::Receiver;

use super::command::{CommandError, Plan};
use super::event::{Event, Source};
use super::pipe::Endpoint;
use super::running::{Input, Running};
use crate::agent::Agent;
use crate::identity::User;

#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot start '{cmd}': {source}")]
    Spawn { cmd: String, source: io::Error },
    #[error("cannot open the standard streams: {0}")]
    Streams(#[from] io::Error),
    #[error("a snapshot is in progress, try again")]
    Snapshot,
}

/// The agent's ends of a process's standard streams.
struct Streams {
    input: Input,
    sources: Vec<(Source, Endpoint)>,
}

/// Starts what `request` asks for as `user`, to be killed after `limit`. The first follower misses nothing.
pub(super) async fn start(
    agent: &Arc<Agent>,
    request: StartRequest,
    user: &User,
    limit: Option<Duration>,
) -> Result<Receiver<Event>, StartError> {
    let config = request.process.into_option().unwrap_or_default();
    let size = request.pty.into_option().map(|pty| terminal_size(&pty));
    let plan = Plan {
        config: &config,
        user,
        sandbox_vars: agent.settings.env_vars(),
        default_workdir: agent.settings.default_workdir(),
        guest: agent.guest.as_ref(),
        terminal: size.is_some(),
        open_files: agent.open_files,
    };
    let mut command = plan.command()?;
    let streams = match size {
        Some(size) => terminal(&mut command, size)?,
        None => pipes(&mut command, request.stdin.unwrap_or(true))?,
    };
    // Held over fork and exec: a child caught between them by a freeze would hang the spawn.
    let active = agent.snapshot.activity().begin().ok_or(StartError::Snapshot)?;
    let children = agent.processes.children().clone();
    // It goes with the spawn, which a client that goes away does not stop.
    let spawning = move || {
        let spawned = children.spawn(command);
        drop(active);
        spawned
    };
    let spawned = tokio::task::spawn_blocking(spawning).await.map_err(io::Error::other)?;
    let child = spawned.map_err(|source| StartError::Spawn { cmd: config.cmd.clone(), source })?;
    let pid = child.id().unwrap_or_default();
    let process = Arc::new(Running::new(pid, request.tag, config, streams.input));
    let follower = process.output.follow(pid);
    agent.processes.insert(Arc::clone(&process));
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        process.supervise(agent.processes.children(), child, streams.sources, limit).await;
        tokio::time::sleep(agent.processes.late_connect()).await;
        agent.processes.forget(&process);
    });
    Ok(follower)
}

/// The size asked for, 80×24 where it says nothing.
pub(super) fn terminal_size(pty: &PTY) -> TerminalSize {
    let (cols, rows) = pty.size.as_option().map_or((0, 0), |size| (size.cols, size.rows));
    let or = |value: u32, default: u16| if value == 0 { default } else { u16::try_from(value).unwrap_or(u16::MAX) };
    TerminalSize { cols: or(cols, 80), rows: or(rows, 24) }
}

fn terminal(command: &mut Command, size: TerminalSize) -> io::Result<Streams> {
    let pty = dormouse_agent_sys::open_pty(size)?;
    command.stdin(Stdio::from(pty.user.try_clone()?)).stdout(Stdio::from(pty.user.try_clone()?)).stderr(pty.user);
    let endpoint = Endpoint::new(pty.controller, Interest::READABLE | Interest::WRITABLE)?;
    Ok(Streams { input: Input::Pty(endpoint.clone()), sources: vec![(Source::Pty, endpoint)] })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

fn pipes(command: &mut Command, stdin: bool) -> io::Result<Streams> {
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    command.stdout(child_stdout).stderr(child_stderr);
    let input = if stdin {
        let (child_stdin, stdin) = pipe()?;
        command.stdin(child_stdin);
        Input::Stdin(Endpoint::new(stdin, Interest::WRITABLE)?)
    } else {
        command.stdin(Stdio::null());
        Input::None
    };
    let sources = vec![
        (Source::Stdout, Endpoint::new(stdout, Interest::READABLE)?),
        (Source::Stderr, Endpoint::new(stderr, Interest::READABLE)?),
    ];
    Ok(Streams { input, sources })
}
