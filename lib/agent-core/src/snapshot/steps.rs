//! Running steps one after the other, each within a deadline, and reporting them.

use std::future::Future;
use std::time::Duration;

use dormouse_agent_proto::control::{StepOutcome, StepReport};
use tokio::time::Instant;

use crate::offload::Offload;

/// What a step that ended well has to say.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) detail: Option<String>,
}

/// Steps so far, and the time that is left for the others.
#[derive(Debug)]
pub(super) struct Steps {
    end: Instant,
    /// What steps must leave of the time until then.
    kept_back: Duration,
    reports: Vec<StepReport>,
}

impl Steps {
    pub(super) fn new(budget: Duration) -> Self {
        Self { end: Instant::now() + budget, kept_back: Duration::ZERO, reports: Vec::new() }
    }

    /// From now on steps leave `time` of the budget.
    pub(super) fn keep_back(&mut self, time: Duration) {
        self.kept_back = time;
    }

    /// Runs a blocking system call as a step. True when it ended well; one that overran goes on unwatched, and until it ends a later
    /// one of that name is not begun.
    pub(super) async fn run_call(
        &mut self,
        name: &str,
        limit: Duration,
        calls: &Offload,
        call: impl FnOnce() -> std::io::Result<Done> + Send + 'static,
    ) -> bool {
        let step = async { calls.call(name, call).await.map(|done| ((), done)) };
        self.run(name, limit, step).await.is_some()
    }

    /// Runs `step` and reports it only when it did not end well.
    pub(super) async fn run_quietly<T>(
        &mut self,
        name: &str,
        limit: Duration,
        step: impl Future<Output = std::io::Result<T>>,
    ) -> Option<T> {
        let value = self.run(name, limit, async { step.await.map(|value| (value, Done::default())) }).await;
        if value.is_some() {
            self.reports.pop();
        }
        value
    }

    /// Runs `step` for at most `limit` and at most what is left of the budget. `None` unless it ended well; a step that overran is
    /// dropped.
    pub(super) async fn run<T>(
        &mut self,
        name: &str,
        limit: Duration,
        step: impl Future<Output = std::io::Result<(T, Done)>>,
    ) -> Option<T> {
        let begin = Instant::now();
        let end = self.end.checked_sub(self.kept_back).unwrap_or(begin);
        let deadline = end.min(begin + limit);
        if deadline <= begin {
            self.report(name, begin, StepOutcome::Skipped, 0, Some("no budget left".into()));
            return None;
        }
        match tokio::time::timeout_at(deadline, step).await {
            Ok(Ok((value, done))) => {
                self.report(name, begin, StepOutcome::Ok, done.bytes, done.detail);
                Some(value)
            }
            Ok(Err(error)) => {
                self.report(name, begin, StepOutcome::Failed, 0, Some(error.to_string()));
                None
            }
            Err(_) => {
                self.report(name, begin, StepOutcome::Overran, 0, None);
                None
            }
        }
    }

    /// Notes a step that is not run.
    pub(super) fn skip(&mut self, name: &str, why: &str) {
        self.report(name, Instant::now(), StepOutcome::Skipped, 0, Some(why.to_owned()));
    }

    fn report(&mut self, name: &str, begin: Instant, outcome: StepOutcome, bytes: u64, detail: Option<String>) {
        let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.reports.push(StepReport { name: name.to_owned(), ms, bytes, outcome, detail });
    }

    pub(super) fn into_reports(self) -> Vec<StepReport> {
        self.reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(ms: u64) -> std::io::Result<((), Done)> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(((), Done { bytes: 7, detail: None }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_past_its_limit_is_left_behind_and_the_next_one_runs() {
        let mut steps = Steps::new(Duration::from_secs(10));
        assert_eq!(steps.run("slow", Duration::from_millis(100), after(500)).await, None);
        assert_eq!(steps.run("quick", Duration::from_millis(100), after(50)).await, Some(()));
        let reports = steps.into_reports();
        assert_eq!((reports[0].outcome, reports[0].ms), (StepOutcome::Overran, 100));
        assert_eq!((reports[1].outcome, reports[1].bytes), (StepOutcome::Ok, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_steps_together_never_take_longer_than_the_budget() {
        let begin = Instant::now();
        let mut steps = Steps::new(Duration::from_millis(150));
        for _ in 0..3 {
            steps.run("slow", Duration::from_millis(100), after(500)).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(150));
        let outcomes: Vec<_> = steps.into_reports().iter().map(|r| r.outcome).collect();
        assert_eq!(outcomes, [StepOutcome::Overran, StepOutcome::Overran, StepOutcome::Skipped]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_back_is_there_for_the_last_step_and_a_quiet_one_shows_only_when_it_fails() {
        let mut steps = Steps::new(Duration::from_millis(150));
        steps.keep_back(Duration::from_millis(50));
        assert_eq!(steps.run("greedy", Duration::from_secs(1), after(500)).await, None);
        assert_eq!(steps.run("late", Duration::from_secs(1), after(1)).await, None);
        steps.keep_back(Duration::ZERO);
        let quiet = async |ms: u64| after(ms).await.map(|_| 7);
        assert_eq!(steps.run_quietly("facts", Duration::from_secs(1), quiet(30)).await, Some(7));
        assert_eq!(steps.run_quietly("facts", Duration::from_secs(1), quiet(30)).await, None);
        let outcomes: Vec<_> = steps.into_reports().into_iter().map(|r| (r.name, r.outcome)).collect();
        let [overran, skipped] = [StepOutcome::Overran, StepOutcome::Skipped];
        assert_eq!(outcomes, [("greedy".into(), overran), ("late".into(), skipped), ("facts".into(), overran)]);
    }

    #[tokio::test]
    async fn a_failed_step_tells_why() {
        let mut steps = Steps::new(Duration::from_secs(1));
        let failing = async { Err::<((), Done), _>(std::io::Error::other("no disk")) };
        assert_eq!(steps.run("trim", Duration::from_secs(1), failing).await, None);
        let reports = steps.into_reports();
        assert_eq!((reports[0].outcome, reports[0].detail.as_deref()), (StepOutcome::Failed, Some("no disk")));
    }
}
