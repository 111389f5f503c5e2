//! Trying again.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::RemoteError;
use super::limits::RetryPolicy;

/// How one attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may work the next time.
    Passing(String),
    /// It never will.
    Lasting(RemoteError),
}

impl From<RemoteError> for Fault {
    fn from(error: RemoteError) -> Self {
        Self::Lasting(error)
    }
}

/// Calls `attempt` until it succeeds, fails for good, or `policy` says that it is enough. Ends within `policy.total`.
pub(super) async fn retry<T, F>(
    policy: &RetryPolicy,
    remote: &str,
    key: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, RemoteError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let start = Instant::now();
    // So far away that it does not matter where the clock cannot count as far.
    let deadline = start.checked_add(policy.total).unwrap_or_else(|| start + Duration::from_secs(1 << 30));
    let mut last = "the attempt did not end".to_owned();
    let mut attempts = 0;
    let gave_up = |attempts, last| RemoteError::Unavailable {
        key: key.to_owned(),
        remote: remote.to_owned(),
        attempts,
        elapsed: start.elapsed(),
        last,
    };
    loop {
        attempts += 1;
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(Fault::Lasting(error))) => return Err(error),
            Ok(Err(Fault::Passing(reason))) => last = reason,
            Err(_) => return Err(gave_up(attempts, last)),
        }
        tracing::debug!(key, attempts, reason = last, "an attempt on the remote failed");
        let pause = policy.pause(attempts, chance());
        if Instant::now() + pause >= deadline {
            return Err(gave_up(attempts, last));
        }
        sleep(pause).await;
    }
}

/// A random number from 0 to 1. Only spreads load, so that it may be 1 where there is no randomness.
fn chance() -> f64 {
    getrandom::u32().map_or(1.0, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { first: secs(1), most: secs(8), total: secs(60) }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    async fn passing<T>() -> Result<T, Fault> {
        Err(Fault::Passing("not now".into()))
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_chance_takes_at_most_half_away() {
        let longest: Vec<_> = (1..7).map(|n| policy().pause(n, 1.0)).collect();
        assert_eq!(longest, [1, 2, 4, 8, 8, 8].map(secs));
        let shortest: Vec<_> = (1..5).map(|n| policy().pause(n, 0.0)).collect();
        assert_eq!(shortest, [500, 1000, 2000, 4000].map(Duration::from_millis));
        assert_eq!(policy().pause(u32::MAX, 1.0), secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_while_succeeds_in_the_end() {
        let left = Cell::new(3);
        let start = Instant::now();
        let policy = policy();
        let got = retry(&policy, "r", "k", || async {
            if left.get() == 0 {
                return Ok(7);
            }
            left.set(left.get() - 1);
            passing().await
        });
        assert_eq!(got.await.unwrap(), 7);
        // Half of 1 + 2 + 4 at least, all of it at most.
        assert!((3500..=7010).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_succeeds_ends_within_the_bound_and_says_why() {
        let start = Instant::now();
        let error = retry(&policy(), "r", "k", passing::<()>).await.unwrap_err();
        assert!((52..=60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        let RemoteError::Unavailable { attempts, last, .. } = error else { panic!("{error}") };
        assert!((9..=16).contains(&attempts), "{attempts}");
        assert_eq!(last, "not now");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_ended_at_the_bound() {
        let start = Instant::now();
        let error = retry(&policy(), "r", "k", std::future::pending::<Result<(), Fault>>).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), 60);
        assert!(matches!(error, RemoteError::Unavailable { attempts: 1, .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_failure_is_not_tried_again() {
        let tried = Cell::new(0);
        let policy = policy();
        let error = retry(&policy, "r", "k", || async {
            tried.set(tried.get() + 1);
            Err::<(), _>(RemoteError::Absent { key: "k".into(), remote: "r".into() }.into())
        });
        assert!(matches!(error.await, Err(RemoteError::Absent { .. })));
        assert_eq!(tried.get(), 1);
    }
}
