//! `dormouse doctor`: what this machine can do, what is missing, and the command that mends it.

mod facts;
mod judge;

use std::process::ExitCode;

use judge::{Check, Verdict};

use super::daemon::Daemon;
use super::output;
use crate::command_error::CommandResult;
use crate::state_dir::StateDir;

/// Tell what this machine can do and what is missing, with the command that mends it
///
/// Needs no daemon. Exit code 1 when something that is needed is missing.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: DoctorArgs, state: &StateDir) -> CommandResult {
    let answers = match Daemon::find(state) {
        Ok(daemon) => tokio::net::TcpStream::connect(daemon.addr()).await.is_ok(),
        Err(_) => false,
    };
    let checks = judge::judge(&facts::gather(state.root(), answers).await);
    match args.json {
        true => output::json(&checks)?,
        false => output::print(&text(&checks))?,
    }
    let missing = checks.iter().any(|check| check.verdict == Verdict::Missing);
    Ok(ExitCode::from(u8::from(missing)))
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Missing => "missing",
        };
        text.push_str(&format!("{word:<8} {:<12} {}\n", check.name, check.found));
        if let Some(mend) = &check.mend {
            text.push_str(&format!("{:<21} mend: {mend}\n", ""));
        }
    }
    text
}
