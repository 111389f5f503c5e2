//! What is taken, and when. Pure: no clock and no file.
//!
//! Only a calm guest is touched, one whose processes have hardly used the CPU nor waited for memory or a disk for a while. What
//! is cold then is taken in small steps, each paid for from a budget of CPU time, and never more than was cold when the calm
//! began: so what was used more than once is not reached. Files that are read again show that it was wrong to take them, and
//! bring a long rest.

use std::time::Duration;

use super::budget::{Budget, MIN_STEP};

/// Left alone of either kind: cheap to keep, and soon used again.
pub(super) const RESERVE: u64 = 16 << 20;
/// What a step for names is to bring, and the weights that are tried for it. How much a weight brings depends on how many files
/// there are and how many names are in use: between nothing and all at once.
const FEW_NAMES: u64 = 2 << 20;
const MANY_NAMES: u64 = 8 << 20;
const USUAL_WEIGHT: u32 = 100;
const MOST_WEIGHT: u32 = 10_000;
const WEIGHT_FACTOR: u32 = 4;
/// Pause between steps.
const BETWEEN_STEPS: Duration = Duration::from_secs(1);
/// Where memory is short, a calm may be shorter by this factor.
const SHORT: u32 = 12;
/// More of one CPU than one part of so many is no calm.
const BUSY_SHARE: u32 = 20;
/// More waiting for memory, or for a disk, than one part of so many of the time is no calm.
const MEMORY_STALL_SHARE: u32 = 1000;
const DISK_STALL_SHARE: u32 = 50;
/// Bytes of evicted files that are read again by anything that goes on.
const NOISE: u64 = 1 << 20;
/// When more than one part of so many of the taken bytes is read again, they should have stayed.
const REGRET_PART: u64 = 4;
/// Rest after that. Doubles each time up to the longest.
pub(super) const SHORTEST_REST: Duration = Duration::from_secs(600);
const LONGEST_REST: Duration = Duration::from_secs(7200);

/// A guest's memory and what is done with it, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySample {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// CPU time that user processes have used so far.
    pub cpu: Duration,
    /// Time so far in which a user process waited for memory.
    pub memory_stall: Duration,
    /// Time so far in which a user process waited for a disk.
    pub disk_stall: Duration,
    /// Bytes of files in memory that were used once, or not for long.
    pub cold_files: u64,
    /// Bytes of the caches of names and inodes that the kernel could free.
    pub names: u64,
    /// Bytes of evicted files that were read again so far.
    pub refaulted: u64,
    /// User processes have used up most of the memory that they get.
    pub short: bool,
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimStep {
    /// So many bytes of files.
    Files(u64),
    /// Names and inodes, weighed against files with so many percent of their usual weight, and few files.
    Names {
        /// More of it brings more names for each file.
        weight: u32,
    },
}

/// What a step brought. Names are not known yet: the kernel frees them only when nobody can be looking at them any more, which the
/// next sample shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Bytes of files.
    pub files: u64,
    /// CPU time that it took.
    pub cpu: Duration,
}

/// How often it is looked, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between looks when there is nothing to do.
    pub(super) look: Duration,
    /// How long a guest must have been calm.
    pub(super) calm: Duration,
}

/// What to do now, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bytes of names that the last step brought, as it turns out.
    pub(super) names_freed: u64,
    pub(super) step: Option<ReclaimStep>,
    pub(super) look_again: Duration,
}

/// What may still be taken in a calm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Credit {
    files: u64,
    names: u64,
    weight: u32,
}

/// What was taken and not judged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    bytes: u64,
    refaulted_before: u64,
}

/// What is remembered from one look to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct State {
    before: Option<MemorySample>,
    calm_since: Option<Duration>,
    /// `None` until the calm has lasted long enough.
    credit: Option<Credit>,
    taken: Option<Taken>,
    /// The last step, if nobody has looked since.
    last: Option<(ReclaimStep, Reclaimed)>,
    budget: Budget,
    rest: Duration,
    rest_until: Duration,
}

fn is_calm(before: &MemorySample, now: &MemorySample, elapsed: Duration) -> bool {
    now.cpu.saturating_sub(before.cpu) <= elapsed / BUSY_SHARE
        && now.memory_stall.saturating_sub(before.memory_stall) <= elapsed / MEMORY_STALL_SHARE
        && now.disk_stall.saturating_sub(before.disk_stall) <= elapsed / DISK_STALL_SHARE
        && now.refaulted.saturating_sub(before.refaulted) <= NOISE
}

impl State {
    /// What stays true after a time in which nobody looked.
    pub(super) fn afresh(self) -> Self {
        Self { budget: self.budget, rest: self.rest, rest_until: self.rest_until, ..Self::default() }
    }

    /// Decides on what is seen now.
    pub(super) fn next(mut self, now: &MemorySample, pace: &Pace) -> (Self, Plan) {
        let mut wait = Plan { names_freed: 0, step: None, look_again: pace.look };
        let Some(before) = self.before.replace(*now) else { return (self, wait) };
        let elapsed = now.at.saturating_sub(before.at);
        self.budget.earn(elapsed);
        if let Some((step, got)) = self.last.take() {
            wait.names_freed = before.names.saturating_sub(now.names);
            self.settle(step, &got, wait.names_freed);
        }
        self.judge(now);
        if elapsed.is_zero() || !is_calm(&before, now, elapsed) {
            (self.calm_since, self.credit) = (None, None);
            return (self, wait);
        }
        let calm = now.at.saturating_sub(*self.calm_since.get_or_insert(before.at));
        let patience = if now.short { pace.calm / SHORT } else { pace.calm };
        if calm < patience || now.at < self.rest_until {
            return (self, wait);
        }
        if self.credit.is_none() {
            self.begin(now);
        }
        let soon = pace.look.min(BETWEEN_STEPS);
        match self.wanted(now) {
            None => (self, wait),
            Some(ReclaimStep::Files(bytes)) => {
                let step = self.budget.affordable().map(|most| ReclaimStep::Files(bytes.min(most)));
                (self, Plan { step, look_again: soon, ..wait })
            }
            Some(names) => {
                let step = self.budget.affordable().map(|_| names);
                (self, Plan { step, look_again: soon, ..wait })
            }
        }
    }

    /// Sees what is cold. What an earlier calm took and nobody wanted back was rightly taken.
    fn begin(&mut self, now: &MemorySample) {
        let beyond_reserve = |bytes: u64| bytes.saturating_sub(RESERVE);
        self.credit = Some(Credit {
            files: beyond_reserve(now.cold_files),
            names: beyond_reserve(now.names),
            weight: USUAL_WEIGHT,
        });
        if self.taken.take().is_some() {
            self.rest = Duration::ZERO;
        }
    }

    /// Names come first: a snapshot finds files again on a disk, but never these.
    fn wanted(&self, now: &MemorySample) -> Option<ReclaimStep> {
        let credit = self.credit?;
        if credit.names.min(now.names.saturating_sub(RESERVE)) >= MIN_STEP {
            return Some(ReclaimStep::Names { weight: credit.weight });
        }
        let files = credit.files.min(now.cold_files.saturating_sub(RESERVE));
        (files >= MIN_STEP).then_some(ReclaimStep::Files(files))
    }

    fn judge(&mut self, now: &MemorySample) {
        let Some(taken) = self.taken else { return };
        let again = now.refaulted.saturating_sub(taken.refaulted_before);
        if again > (taken.bytes / REGRET_PART).saturating_add(NOISE) {
            self.taken = None;
            self.credit = Some(Credit::default());
            self.rest = self.rest.saturating_mul(2).clamp(SHORTEST_REST, LONGEST_REST);
            self.rest_until = now.at.saturating_add(self.rest);
        }
    }

    /// Notes how a step went.
    pub(super) fn after(mut self, step: ReclaimStep, got: &Reclaimed) -> Self {
        // Only files have a price that is known now.
        let bytes = matches!(step, ReclaimStep::Files(_)).then_some(got.files);
        self.budget.spend(got.cpu, bytes);
        let refaulted = self.before.map_or(0, |before| before.refaulted);
        let taken = self.taken.get_or_insert(Taken { bytes: 0, refaulted_before: refaulted });
        taken.bytes = taken.bytes.saturating_add(got.files);
        self.last = Some((step, *got));
        self
    }

    /// What is hard to get is in use after all and not asked for again in this calm, nor names that cost more files than they free.
    fn settle(&mut self, step: ReclaimStep, got: &Reclaimed, names: u64) {
        let Some(credit) = &mut self.credit else { return };
        credit.files = credit.files.saturating_sub(got.files);
        credit.names = credit.names.saturating_sub(names);
        match step {
            ReclaimStep::Files(asked) if got.files < asked / 2 => credit.files = 0,
            ReclaimStep::Names { weight } if names < FEW_NAMES && weight < MOST_WEIGHT => {
                credit.weight = weight.saturating_mul(WEIGHT_FACTOR).min(MOST_WEIGHT);
            }
            ReclaimStep::Names { .. } if names < got.files.max(MIN_STEP) => credit.names = 0,
            ReclaimStep::Names { weight } if names > MANY_NAMES => {
                credit.weight = (weight / WEIGHT_FACTOR).max(USUAL_WEIGHT);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
