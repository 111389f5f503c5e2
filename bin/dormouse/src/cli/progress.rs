//! Showing that something goes on.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// What is over sooner needs no words.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Waits for something, and after a second says for what: a spinner on a terminal, a line elsewhere.
pub(super) async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
        return done;
    }
    if !std::io::stderr().is_terminal() {
        output::note(&format!("dormouse: {what}"));
        return work.await;
    }
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(TICK);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// A bar for this many bytes, or a counter where it is not known. Invisible where there is no terminal.
pub(super) fn bytes(total: Option<u64>, what: &str) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_message(what.to_owned());
    let template = match total {
        Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Tells the steps of something long.
pub(super) struct Steps {
    bar: Option<ProgressBar>,
}

impl Steps {
    /// Shows nothing until the first step.
    pub(super) fn new() -> Self {
        Self { bar: None }
    }

    /// A step begins, and with it the one before is done.
    pub(super) fn step(&mut self, text: &str) {
        if !std::io::stderr().is_terminal() {
            output::note(text);
            return;
        }
        self.finish();
        let bar = ProgressBar::new_spinner().with_message(text.to_owned());
        bar.enable_steady_tick(TICK);
        self.bar = Some(bar);
    }

    /// The current step is so far, in bytes.
    pub(super) fn advance(&mut self, done: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
            bar.set_length(total);
            let style = ProgressStyle::with_template("{spinner} {msg} {bar:30} {bytes}/{total_bytes}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        bar.set_position(done);
    }

    /// Tells something beside the steps.
    pub(super) fn aside(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// The last step is done.
    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            let text = bar.message();
            bar.finish_and_clear();
            output::note(&format!("  {text} ({:.1} s)", bar.elapsed().as_secs_f64()));
        }
    }
}
