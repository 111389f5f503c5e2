//! microVM sandboxes that sleep small and wake fast: the daemon, and the commands that talk to it.
//!
//! [`serve`] is the daemon: HTTP in front of `dormouse_lifecycle::Host`, which does all the work. [`cli`] is a client
//! of that HTTP and knows nothing of lifecycles. They share the [`state_dir`], where the daemon leaves its address.
#![forbid(unsafe_code)]

mod cli;
mod command_error;
mod serve;
mod state_dir;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return command_error::CommandError::internal(error).report(),
    };
    let result = runtime.block_on(cli::run(args));
    // A thread that waits for standard input would hold up the end for ever.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| error.report())
}
