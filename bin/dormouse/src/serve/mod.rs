//! `dormouse serve`: the daemon.

mod app;
mod auth;
mod body;
mod convert;
mod failure;
mod listener;
mod proxy;
mod recipe;
mod remote;
mod routes;
mod sandboxes;
mod stop;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use dormouse_lifecycle::{Host, OpenError, Options, Recovery};
use dormouse_vmm::qemu::{Qemu, QemuOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::command_error::{CommandError, CommandResult};
use crate::state_dir::{DaemonInfo, StateDir};

/// Run the daemon: it owns the sandboxes and serves the API
///
/// Listens on loopback and prints where. Ctrl-C or SIGTERM stops it; running sandboxes go on, and the next `dormouse
/// serve` on the same state folder takes them over again. RUST_LOG=debug shows each request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dormouse serve\n  dormouse serve --listen 127.0.0.1:3000")]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", env = "DORMOUSE_LISTEN", hide_env_values = true)]
    listen: SocketAddr,
    /// Listen where others on the network can reach it. There is no encryption: the API key can be read on the way
    #[arg(long)]
    allow_remote: bool,
    /// The agent that is put into templates [default: dormouse-agent beside this program]
    #[arg(long, value_name = "FILE", env = "DORMOUSE_AGENT", hide_env_values = true)]
    agent: Option<PathBuf>,
    #[command(flatten)]
    remote: remote::RemoteArgs,
}

/// Runs the daemon until it is told to stop.
pub(crate) async fn run(args: ServeArgs, state: StateDir) -> CommandResult {
    start_log();
    check_listen(args.listen, args.allow_remote)?;
    let agent = agent_binary(args.agent)?;
    let remote = args.remote.setup(|name| std::env::var(name).ok())?;
    let vmm = Qemu::probe(QemuOptions::default())
        .await
        .map_err(|e| CommandError::user(e.to_string()).hint("`dormouse doctor` tells what is missing"))?;
    let listener =
        TcpListener::bind(args.listen).await.map_err(CommandError::io(format!("listen on {}", args.listen)))?;
    let limits = args.remote.limits();
    let options = Options { state: state.root().to_owned(), vmm: Arc::new(vmm), agent, limits, remote };
    let (host, recovery) = Host::open(options).await.map_err(|error| cannot_open(&error))?;
    say(&told(&recovery));
    let served = serve(&host, &state, listener).await;
    host.shutdown().await;
    served
}

async fn serve(host: &Host, state: &StateDir, listener: TcpListener) -> CommandResult {
    let key = state.load_or_make_key().map_err(CommandError::io("the API key"))?;
    let addr = listener.local_addr().map_err(CommandError::io("the listening address"))?;
    let (stop, stopping) = watch::channel(false);
    stop::on_signal(stop)?;
    let daemon = DaemonInfo { pid: std::process::id(), addr };
    state.announce(&daemon).map_err(CommandError::io(format!("write to {}", state.root().display())))?;
    say(&format!("dormouse: listening on http://{addr} (state: {})", state.root().display()));
    listener::serve(listener, app::app(Arc::new(host.clone()), key), stopping).await;
    state.withdraw();
    let running = host.list().iter().filter(|s| s.phase == dormouse_lifecycle::Phase::Running).count();
    say(&format!("dormouse: stopped; {running} running sandbox(es) go on until the next `dormouse serve`"));
    Ok(ExitCode::SUCCESS)
}

/// What the last daemon left, for people.
fn told(recovery: &Recovery) -> String {
    let mut lines = vec![format!(
        "dormouse: {} running sandbox(es) taken over, {} paused, {} lost, {} leftover(s) removed",
        recovery.adopted.len(),
        recovery.paused,
        recovery.lost.len(),
        recovery.swept
    )];
    lines.extend(recovery.remote.as_ref().map(remote::told));
    lines.extend(recovery.lost.iter().map(|(id, reason)| format!("dormouse: lost {id}: {reason}")));
    lines.extend(recovery.unreadable.iter().map(|(what, why)| format!("dormouse: left alone {what}: {why}")));
    lines.join("\n")
}

fn check_listen(listen: SocketAddr, allow_remote: bool) -> CommandResult<()> {
    if listen.ip().is_loopback() || allow_remote {
        return Ok(());
    }
    let message = format!("{listen} can be reached from other machines, and the API key would travel unencrypted");
    Err(CommandError::usage(message).hint("listen on 127.0.0.1, or say --allow-remote"))
}

fn agent_binary(given: Option<PathBuf>) -> CommandResult<PathBuf> {
    let beside = || std::env::current_exe().ok().map(|exe| exe.with_file_name("dormouse-agent"));
    let path = given.or_else(beside).unwrap_or_else(|| PathBuf::from("dormouse-agent"));
    if path.is_file() {
        return std::path::absolute(path).map_err(CommandError::io("the agent binary"));
    }
    let message = format!("no agent binary at {}", path.display());
    Err(CommandError::user(message).hint("build it with `cargo xtask agent`, or give --agent FILE"))
}

fn cannot_open(error: &OpenError) -> CommandError {
    let failed = CommandError::user(error.to_string());
    match error {
        OpenError::Locked { .. } => failed.hint("the other commands talk to the daemon that runs already"),
        OpenError::Remote(_) => failed.hint("mend --store, or what AWS_… variables say, or the store itself"),
        _ => failed,
    }
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process is a test's.
    let _ = log.try_init();
}

/// A daemon goes on when nobody reads what it says.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
