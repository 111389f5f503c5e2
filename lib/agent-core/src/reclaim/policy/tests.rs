use super::*;
use crate::reclaim::budget::{BURST, MAX_STEP, SHARE};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const PACE: Pace = Pace { look: Duration::from_secs(5), calm: Duration::from_secs(60) };
const SECOND: Duration = Duration::from_secs(1);

/// A guest as far as the policy sees it, and the loop around the policy.
#[derive(Debug)]
struct Guest {
    sample: MemorySample,
    state: State,
    next_look: Duration,
    /// Nanoseconds of CPU for each byte that is taken.
    price: u64,
    /// What the kernel gives of what it is asked for, in percent.
    willing: u64,
    /// Bytes of names that each percent of weight brings.
    names_per_weight: u64,
    steps: Vec<(Duration, ReclaimStep, Reclaimed)>,
}

impl Guest {
    fn with(cold_files: u64, names: u64) -> Self {
        let sample = MemorySample { cold_files, names, ..MemorySample::default() };
        let (state, next_look) = (State::default(), Duration::ZERO);
        Self { sample, state, next_look, price: 1, willing: 100, names_per_weight: 40 << 10, steps: Vec::new() }
    }

    fn take(&mut self, step: ReclaimStep) -> Reclaimed {
        let share = |bytes: u64| bytes / 100 * self.willing;
        let (files, names) = match step {
            ReclaimStep::Files(bytes) => (share(bytes), share(bytes) / 64),
            ReclaimStep::Names { weight } => (MIB / 2, share(u64::from(weight) * self.names_per_weight)),
        };
        let (files, names) = (files.min(self.sample.cold_files), names.min(self.sample.names));
        self.sample.cold_files -= files;
        self.sample.names -= names;
        Reclaimed { files, cpu: Duration::from_nanos((files + names) * self.price) }
    }

    /// Lets `time` pass, of which user processes use the part `busy`.
    fn pass(&mut self, time: Duration, busy: f64) {
        let (begin, cpu) = (self.sample.at, self.sample.cpu);
        let end = begin + time;
        while self.next_look <= end {
            self.sample.at = self.next_look.max(begin);
            self.sample.cpu = cpu + (self.sample.at - begin).mul_f64(busy);
            let (state, plan) = self.state.next(&self.sample, &PACE);
            self.state = state;
            if let Some(step) = plan.step {
                let got = self.take(step);
                self.state = self.state.after(step, &got);
                self.steps.push((self.sample.at, step, got));
            }
            self.next_look = self.sample.at + plan.look_again;
        }
        self.sample.at = end;
        self.sample.cpu = cpu + time.mul_f64(busy);
    }

    fn files_taken(&self) -> u64 {
        self.steps.iter().map(|(_, _, got)| got.files).sum()
    }

    /// Files that were taken are read again.
    fn read_again(&mut self, bytes: u64) {
        self.sample.refaulted += bytes;
        self.sample.cold_files += bytes;
    }
}

#[test]
fn an_idle_guest_gives_all_that_is_cold_but_the_reserve_in_small_steps_and_then_is_left_alone() {
    let mut guest = Guest::with(400 * MIB, 60 * MIB);
    guest.pass(55 * SECOND, 0.0);
    assert_eq!(guest.steps, [], "not calm for long enough");
    guest.pass(600 * SECOND, 0.0);
    assert!(guest.sample.cold_files < RESERVE + MIN_STEP && guest.sample.names < RESERVE + MIN_STEP, "{guest:?}");
    assert!(guest.sample.cold_files >= RESERVE - MAX_STEP);
    assert!(guest.steps.len() > 50, "no cliff");
    let done = guest.steps.len();
    guest.pass(3600 * SECOND, 0.0);
    assert_eq!(guest.steps.len(), done);
}

#[test]
fn a_busy_guest_is_never_touched_whatever_keeps_it_busy() {
    let mut guest = Guest::with(400 * MIB, 60 * MIB);
    guest.pass(3600 * SECOND, 0.1);
    for _ in 0..720 {
        guest.pass(5 * SECOND, 0.0);
        guest.sample.memory_stall += Duration::from_millis(6);
    }
    for _ in 0..720 {
        guest.pass(5 * SECOND, 0.0);
        guest.sample.disk_stall += Duration::from_millis(110);
    }
    for _ in 0..720 {
        guest.pass(5 * SECOND, 0.0);
        guest.sample.refaulted += 2 * MIB;
    }
    assert_eq!(guest.steps, []);
}

#[test]
fn it_stops_at_once_when_the_guest_gets_busy_and_takes_only_what_is_cold_after_the_next_calm() {
    let mut guest = Guest::with(400 * MIB, 0);
    guest.pass(80 * SECOND, 0.0);
    let taken = guest.files_taken();
    assert!(taken > 0 && guest.sample.cold_files > 200 * MIB, "in the middle of it");
    guest.pass(30 * SECOND, 1.0);
    // One look may fall into the moment before.
    assert!(guest.files_taken() <= taken + MAX_STEP);
    let at = guest.sample.at;
    guest.pass(3600 * SECOND, 0.0);
    let after: Vec<_> = guest.steps.iter().filter(|step| step.0 >= at).collect();
    assert!(after[0].0 >= at + PACE.calm - PACE.look, "a calm of its own");
    assert!(guest.sample.cold_files < RESERVE + MIN_STEP);
}

#[test]
fn where_memory_is_short_a_short_calm_is_enough() {
    let mut guest = Guest::with(400 * MIB, 0);
    guest.sample.short = true;
    guest.pass(20 * SECOND, 0.0);
    assert!(!guest.steps.is_empty());
}

#[test]
fn files_that_are_read_again_bring_a_rest_that_doubles_and_a_good_turn_ends_it() {
    let mut guest = Guest::with(100 * MIB, 0);
    let rest_after = |guest: &mut Guest, again: bool| {
        guest.pass(400 * SECOND, 0.0);
        assert!(guest.sample.cold_files < RESERVE + MIN_STEP, "it was taken");
        if again {
            guest.read_again(60 * MIB);
        } else {
            guest.sample.cold_files += 60 * MIB;
        }
        let (at, steps) = (guest.sample.at, guest.steps.len());
        guest.pass(10 * SECOND, 1.0);
        while guest.steps.len() == steps {
            guest.pass(5 * SECOND, 0.0);
        }
        (guest.sample.at - at).as_secs()
    };
    let rests = [true, true, false, true].map(|again| rest_after(&mut guest, again));
    assert!((600..620).contains(&rests[0]), "{rests:?}");
    assert!((1200..1220).contains(&rests[1]), "{rests:?}");
    assert!((60..90).contains(&rests[2]), "{rests:?}");
    assert!((600..620).contains(&rests[3]), "{rests:?}");
}

#[test]
fn files_that_the_kernel_does_not_give_are_not_asked_for_again() {
    let mut guest = Guest::with(400 * MIB, 0);
    guest.willing = 5;
    guest.pass(3600 * SECOND, 0.0);
    assert_eq!(guest.steps.len(), 1, "{:?}", guest.steps);
}

fn weights(guest: &Guest) -> Vec<u32> {
    let steps = guest.steps.iter().map(|(_, step, _)| *step);
    steps.filter_map(|step| if let ReclaimStep::Names { weight } = step { Some(weight) } else { None }).collect()
}

#[test]
fn names_come_first_and_their_weight_is_raised_until_they_come_and_lowered_when_too_many_do() {
    let mut guest = Guest::with(400 * MIB, 200 * MIB);
    guest.names_per_weight = 2 << 10;
    guest.pass(80 * SECOND, 0.0);
    assert_eq!(weights(&guest)[..4], [100, 400, 1600, 1600]);
    assert!(weights(&guest).len() == guest.steps.len(), "no files yet");
    guest.names_per_weight = 20 << 10;
    guest.pass(5 * SECOND, 0.0);
    assert_eq!(weights(&guest).last(), Some(&400));
    guest.pass(600 * SECOND, 0.0);
    assert!(guest.sample.names < RESERVE + MIN_STEP && guest.sample.names > 0);
    assert!(matches!(guest.steps.last(), Some((_, ReclaimStep::Files(_), _))));
}

#[test]
fn names_that_do_not_come_are_given_up_before_they_cost_much() {
    let mut guest = Guest::with(400 * MIB, 100 * MIB);
    guest.names_per_weight = 0;
    guest.pass(100 * SECOND, 0.0);
    assert_eq!(weights(&guest), [100, 400, 1600, 6400, 10_000]);
    assert!(guest.steps.len() > 5, "files are taken then");
}

#[test]
fn after_a_time_in_which_nobody_looked_a_calm_begins_anew_and_a_rest_goes_on() {
    let mut guest = Guest::with(400 * MIB, 0);
    guest.pass(58 * SECOND, 0.0);
    guest.state = guest.state.afresh();
    let at = guest.sample.at;
    guest.pass(300 * SECOND, 0.0);
    assert!(guest.steps[0].0 >= at + PACE.calm);
    guest.read_again(guest.files_taken());
    guest.pass(10 * SECOND, 0.0);
    guest.state = guest.state.afresh();
    let steps = guest.steps.len();
    guest.pass(500 * SECOND, 0.0);
    assert_eq!(guest.steps.len(), steps);
}

prop_compose! {
    fn any_sample()(at in 0u64..1 << 40, times in any::<[u64; 3]>(), sizes in any::<[u64; 3]>(), short in any::<bool>()) -> MemorySample {
        let [cpu, memory_stall, disk_stall] = times.map(Duration::from_nanos);
        let [cold_files, names, refaulted] = sizes;
        MemorySample { at: Duration::from_nanos(at), cpu, memory_stall, disk_stall, cold_files, names, refaulted, short }
    }
}

proptest! {
    #[test]
    fn whatever_a_kernel_claims_is_survived(looks in prop::collection::vec((any_sample(), any::<[u64; 2]>()), 0..40)) {
        let mut state = State::default();
        for (sample, [files, cpu]) in looks {
            let (next, plan) = state.next(&sample, &PACE);
            prop_assert!(plan.look_again >= SECOND);
            state = next;
            if let Some(step) = plan.step {
                state = state.after(step, &Reclaimed { files, cpu: Duration::from_nanos(cpu) });
            }
        }
    }

    #[test]
    fn no_step_without_a_calm_no_large_step_and_never_more_cpu_time_than_earned(
        life in prop::collection::vec((1u64..200, 0usize..4, 0u64..64, any::<bool>()), 1..30),
        price in 1u64..200,
        willing in 1u64..=100,
    ) {
        let mut guest = Guest::with(200 * MIB, 80 * MIB);
        (guest.price, guest.willing) = (price, willing);
        let mut calm_since = Duration::ZERO;
        for (seconds, load, read, again) in life {
            let busy = [0.0, 0.0, 0.01, 0.6][load];
            if again {
                guest.read_again(read.min(guest.files_taken() / MIB) * MIB);
            } else {
                guest.sample.cold_files += read * MIB;
            }
            let (begin, first) = (guest.sample.at, guest.steps.len());
            guest.pass(Duration::from_secs(seconds), busy);
            if busy > 0.5 {
                calm_since = guest.sample.at;
            }
            for (at, step, _) in &guest.steps[first..] {
                // A look right after a busy time began may not see it yet.
                prop_assert!(busy < 0.5 || *at < begin + SECOND, "busy since {begin:?}, {step:?} at {at:?}");
                prop_assert!(busy > 0.5 || *at + PACE.look >= calm_since + PACE.calm, "calm since {calm_since:?}, at {at:?}");
                prop_assert!(!matches!(step, ReclaimStep::Files(bytes) if *bytes > MAX_STEP));
            }
        }
        let mut used = Duration::ZERO;
        for (at, _, got) in &guest.steps {
            prop_assert!(used <= *at / SHARE + BURST, "{used:?} by {at:?}");
            used += got.cpu;
        }
    }

    #[test]
    fn in_one_calm_no_more_is_taken_than_was_cold_when_it_began(cold in 0u64..600, names in 0u64..100, replenished in 1u64..8) {
        let mut guest = Guest::with(cold * MIB, names * MIB);
        for _ in 0..600 {
            guest.pass(SECOND, 0.0);
            // What was used more than once ages into what is taken.
            guest.sample.cold_files += replenished * MIB;
        }
        let most = (cold * MIB).saturating_sub(RESERVE) + 61 * replenished * MIB + MAX_STEP;
        prop_assert!(guest.files_taken() <= most, "{} of {most}", guest.files_taken());
    }
}
