//! CPU time that may be used, and what it buys.

use std::time::Duration;

/// Largest and smallest step that is bought. Smaller ones are not worth a look at the kernel.
pub(super) const MAX_STEP: u64 = 8 << 20;
pub(super) const MIN_STEP: u64 = 256 << 10;
/// One part of so many of one CPU's time is earned.
pub(super) const SHARE: u32 = 100;
/// What may pile up.
pub(super) const BURST: Duration = Duration::from_millis(20);
/// Nanoseconds that a byte costs, before the first step has shown it.
const FIRST_PRICE: f64 = 2.0;

/// Earned in the course of time and spent by steps. A step's price is known only afterwards, so there can be debt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    nanos: i64,
    price: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nanos: 0, price: FIRST_PRICE }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl Budget {
    pub(super) fn earn(&mut self, elapsed: Duration) {
        self.nanos = self.nanos.saturating_add(nanos(elapsed / SHARE)).min(nanos(BURST));
    }

    /// Spends what a step took, which is the price of `bytes` if they are known.
    pub(super) fn spend(&mut self, cpu: Duration, bytes: Option<u64>) {
        self.nanos = self.nanos.saturating_sub(nanos(cpu));
        let Some(bytes) = bytes else { return };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let price = cpu.as_secs_f64() * 1e9 / bytes.max(MIN_STEP) as f64;
        self.price = f64::midpoint(self.price, price);
    }

    /// Bytes that can be paid for. Whoever has saved up all that may pile up gets the smallest step, however dear it is.
    pub(super) fn affordable(&self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = (self.nanos.max(0) as f64 / self.price.max(0.01)) as u64;
        let least = self.nanos >= nanos(BURST);
        (bytes >= MIN_STEP || least).then_some(bytes.clamp(MIN_STEP, MAX_STEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_bought_on_credit_and_savings_have_an_end() {
        let mut budget = Budget::default();
        assert_eq!(budget.affordable(), None);
        budget.earn(SECOND);
        assert_eq!(budget.affordable(), Some(5_000_000), "10 ms at 2 ns");
        budget.earn(3600 * SECOND);
        assert_eq!(budget.affordable(), Some(MAX_STEP));
        budget.spend(Duration::from_millis(30), Some(1 << 20));
        assert_eq!(budget.affordable(), None, "in debt");
        budget.earn(SECOND);
        assert_eq!(budget.affordable(), None, "just out of debt");
        budget.earn(SECOND);
        assert!(budget.affordable().is_some_and(|bytes| bytes < 1 << 20), "it has become dear");
    }

    #[test]
    fn what_is_too_dear_is_bought_in_the_smallest_step_by_who_saves_for_it() {
        let mut budget = Budget::default();
        for _ in 0..10 {
            budget.spend(SECOND, Some(1));
        }
        budget.earn(1100 * SECOND);
        assert_eq!(budget.affordable(), Some(MIN_STEP));
        budget.spend(SECOND, None);
        budget.earn(99 * SECOND);
        assert_eq!(budget.affordable(), None);
    }
}
