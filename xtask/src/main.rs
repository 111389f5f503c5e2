//! Repository tasks. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "this is a command-line program")]

mod agent;
mod bench;
mod dist;
mod tidy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// Repository tasks of dormouse.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Args {
    /// Builds the static guest agent and checks its size.
    Agent,
    /// Builds the host binary and the agent into target/dist.
    Dist,
    /// Measures; prints bytes, pages and ratios taken in one run.
    #[command(subcommand)]
    Bench(Bench),
    /// Checks rules of this repository that no compiler knows.
    Tidy,
}

#[derive(Subcommand)]
enum Bench {
    /// The agent's memory, CPU and binary size; process starts and file transfers through it. Needs `cargo xtask dist`.
    Agent,
    /// CPU and bytes read to find a guest's free pages, per GiB of RAM; speed of the zero scan.
    Introspect,
    /// Speed of writing and unpacking a memory image.
    Image,
    /// What a snapshot of real guests stores, by each method, on the workloads W0 to W5 (docs/benchmarks.md).
    #[command(disable_help_flag = true)]
    Snapshot {
        /// Options of the bench, `--help` among them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Work of a busy guest with and without the agent's reclaimer, on a real guest. Needs `cargo xtask dist`.
    Reclaim {
        /// How long pairs of turns are taken. The bounds narrow with the root of it.
        #[arg(long, default_value_t = 150)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Agent => println!("{}", agent::build()?.display()),
        Args::Dist => println!("{}", dist::build()?.display()),
        Args::Bench(Bench::Agent) => bench::agent::run()?,
        Args::Bench(Bench::Introspect) => bench::introspect::run()?,
        Args::Bench(Bench::Image) => bench::image::run()?,
        Args::Bench(Bench::Snapshot { options }) => bench::snapshot::run(&options)?,
        Args::Bench(Bench::Reclaim { seconds }) => bench::reclaim::run(seconds)?,
        Args::Tidy => tidy::run()?,
    }
    Ok(())
}

/// The top folder of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the repository.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
