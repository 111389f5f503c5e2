//! Builds the default template's files and says how long each step took: `build_base AGENT FOLDER [stable|backports]`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::Path;
use std::time::Instant;

use dormouse_templates::{BuildError, KernelLine, KernelSource, Progress, Recipe, build};

struct Timed(Instant);

impl Progress for Timed {
    fn step(&self, text: &str) {
        println!("{:6.1} s  {text}", self.0.elapsed().as_secs_f64());
    }
    fn advance(&self, _done: u64, _total: Option<u64>) {}
    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<(), BuildError> {
    let args: Vec<String> = std::env::args().collect();
    let [_, agent, folder, line @ ..] = args.as_slice() else {
        println!("usage: build_base AGENT FOLDER [stable|backports]");
        return Ok(());
    };
    let flavour = match line.first().map(String::as_str) {
        Some("backports") => KernelLine::Backports,
        _ => KernelLine::Stable,
    };
    let recipe = Recipe { kernel: KernelSource::Debian { flavour }, ..Recipe::base() };
    let timed = Timed(Instant::now());
    let folder = Path::new(folder);
    let artifacts = build(&recipe, Path::new(agent), &folder.join("store"), &folder.join("scratch"), &timed)?;
    timed.step("done");
    println!("{artifacts:#?}");
    Ok(())
}
