//! How preparations went so far.

use std::collections::BTreeMap;
use std::time::Duration;

use dormouse_agent_proto::control::{PrepareReport, StepOutcome, StepReport};

use super::prepare::PrepareError;

/// The last preparation that was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) took: Duration,
    pub(crate) steps: Vec<StepReport>,
}

/// Since the agent began. As large as there are names of steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    outcomes: BTreeMap<&'static str, u64>,
    steps: BTreeMap<(String, &'static str), u64>,
    last: Option<Last>,
}

fn name(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Ok => "ok",
        StepOutcome::Overran => "overran",
        StepOutcome::Failed => "failed",
        StepOutcome::Skipped => "skipped",
    }
}

impl Record {
    pub(super) fn note(&mut self, result: Result<&PrepareReport, PrepareError>, took: Duration) {
        let outcome = match result {
            Ok(_) => "prepared",
            Err(PrepareError::Busy) => "busy",
            Err(PrepareError::Aborted) => "aborted",
            Err(PrepareError::NotQuiet) => "not_quiet",
        };
        count(self.outcomes.entry(outcome).or_default());
        if let Ok(report) = result {
            for step in &report.steps {
                count(self.steps.entry((step.name.clone(), name(step.outcome))).or_default());
            }
            self.last = Some(Last { took, steps: report.steps.clone() });
        }
    }

    /// How many ended how.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outcomes.iter().map(|(outcome, count)| (*outcome, *count))
    }

    /// How many steps, by name and outcome.
    pub(crate) fn steps(&self) -> impl Iterator<Item = ((&str, &'static str), u64)> {
        self.steps.iter().map(|((name, outcome), count)| ((name.as_str(), *outcome), *count))
    }

    pub(crate) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
