//! `cargo xtask bench snapshot`: real guests do the workloads W0 to W5, and one table for each tells what a snapshot of
//! them stores by each method, beside what is wanted. How to read it: `docs/benchmarks.md`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]

mod block_hashes;
mod census;
mod codecs;
mod cost;
mod cpu_time;
mod figures;
mod lab;
mod measure;
mod pages;
mod portion;
mod store;
mod svg;
mod table;
mod twin;
mod watch;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;

use crate::figures::Figures;
use crate::lab::Lab;
use crate::workload::Workload;

/// What a snapshot stores, by each method, of guests that did the same. Figures never fail; only what breaks does.
#[derive(Parser)]
#[command(name = "cargo xtask bench snapshot")]
struct Args {
    /// The workloads, in this order; all of them when not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Leaves out the methods that need guests of their own: free page reporting and init_on_free.
    #[arg(long)]
    no_other_guests: bool,
    /// Also writes the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draws the figures.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let lab = Arc::new(Lab::open().await?);
    let outcome = tokio::select! {
        outcome = measure_all(&lab, &args) => outcome,
        signal = tokio::signal::ctrl_c() => signal.map_err(Into::into).and_then(|()| anyhow::bail!("interrupted")),
    };
    lab.close().await;
    outcome
}

/// Each table is printed, and the files are written anew, when it is there: all of them take long under emulation.
async fn measure_all(lab: &Arc<Lab>, args: &Args) -> anyhow::Result<()> {
    let workloads = if args.workloads.is_empty() { Workload::ALL.to_vec() } else { args.workloads.clone() };
    let mut all = Vec::new();
    for workload in workloads {
        eprintln!("{workload:?}: {}", workload.title());
        let figures = measure::measure(lab, workload, !args.no_other_guests).await?;
        println!("{}", table::text(&figures));
        all.push(figures);
        write_files(args, &all)?;
    }
    Ok(())
}

fn write_files(args: &Args, all: &[Figures]) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(all)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::draw(all)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
