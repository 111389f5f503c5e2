//! Which request is possible in which phase. Pure: no I/O, no clock.

use crate::state::DurablePhase;
use crate::{OnTimeout, Phase};

/// What is asked of a sandbox, or happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The caller wants it paused.
    Pause,
    /// The caller wants it running, resumed if need be.
    Connect,
    /// The caller wants its agent.
    Reach,
    /// The caller wants another end of its time.
    SetTimeout,
    /// The caller wants a snapshot of it while it goes on.
    Checkpoint,
    /// The caller wants copies of it.
    Fork,
    /// Its time is up.
    Expire,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Pause,
    Resume,
    Extend,
    Answer,
    /// Its snapshot can be started from as it is.
    ForkSnapshot,
    /// What a snapshot is made of is copied, and it goes on.
    Checkpoint,
    Remove,
}

/// What to do about `request`, or the participle that completes "it cannot be …".
///
/// The owner of a sandbox carries out one request after the other, so the phases in between (creating, pausing,
/// resuming) are never seen here, except after a crash, when recovery ends them before the owner starts.
pub(super) fn decide(
    phase: &DurablePhase,
    request: Request,
    has_snapshot: bool,
    on_timeout: OnTimeout,
) -> Result<Action, &'static str> {
    use Request as R;
    match (phase.public(), request) {
        (Phase::Running, R::Pause) => Ok(Action::Pause),
        (Phase::Running, R::Connect) => Ok(Action::Extend),
        (Phase::Running, R::Reach | R::SetTimeout) => Ok(Action::Answer),
        (Phase::Running, R::Checkpoint | R::Fork) => Ok(Action::Checkpoint),
        (Phase::Running, R::Expire) => Ok(match on_timeout {
            OnTimeout::Kill => Action::Remove,
            OnTimeout::Pause => Action::Pause,
        }),
        // A removal that failed half-way is tried again.
        (_, R::Expire) if *phase == DurablePhase::Removing => Ok(Action::Remove),
        (_, R::Connect | R::Fork) if *phase == DurablePhase::Removing => Err("used: it is being removed"),
        (Phase::Paused | Phase::Lost, R::Connect) if has_snapshot => Ok(Action::Resume),
        (Phase::Paused | Phase::Lost, R::Fork) if has_snapshot => Ok(Action::ForkSnapshot),
        (_, R::Expire) => Ok(Action::Nothing),
        (_, R::Pause) => Err("paused"),
        (_, R::Checkpoint) => Err("taken a snapshot of: only a running one can"),
        (_, R::Connect) => Err("resumed: it has no snapshot"),
        (_, R::Reach) => Err("reached"),
        (_, R::SetTimeout) => Err("given another timeout"),
        (_, R::Fork) => Err("forked: it has no snapshot"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Request> {
        use Request as R;
        prop_oneof![
            Just(R::Pause),
            Just(R::Connect),
            Just(R::Reach),
            Just(R::SetTimeout),
            Just(R::Checkpoint),
            Just(R::Fork),
            Just(R::Expire),
        ]
    }

    /// A sandbox reduced to what must hold: how many VMs it has and whether its state could be lost.
    #[derive(Debug)]
    struct Model {
        phase: DurablePhase,
        vms: u32,
        snapshot: bool,
        removed: bool,
    }

    impl Model {
        /// What a VM does that ends by itself.
        fn lose_the_vm(&mut self) {
            if self.vms == 1 {
                (self.vms, self.phase) = (0, DurablePhase::Lost { reason: String::new() });
            }
        }

        fn carry_out(&mut self, action: Action, succeeds: bool) {
            match action {
                Action::Pause if succeeds => {
                    assert_eq!(self.vms, 1, "only a VM can be paused");
                    (self.vms, self.snapshot, self.phase) = (0, true, DurablePhase::Paused);
                }
                Action::Checkpoint => assert_eq!(self.vms, 1, "only a VM can be copied"),
                Action::Resume if succeeds => {
                    assert!(self.snapshot, "resumed from nothing");
                    self.vms += 1;
                    self.phase = DurablePhase::Running;
                }
                Action::ForkSnapshot => assert!(self.snapshot, "forked from nothing"),
                Action::Remove => (self.vms, self.removed) = (0, true),
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn no_history_gives_two_vms_or_a_paused_sandbox_without_snapshot(
            history in prop::collection::vec((prop::option::weighted(0.9, requests()), any::<bool>()), 0..40),
            pause_on_timeout: bool,
        ) {
            let on_timeout = if pause_on_timeout { OnTimeout::Pause } else { OnTimeout::Kill };
            let mut m = Model { phase: DurablePhase::Running, vms: 1, snapshot: false, removed: false };
            for (request, succeeds) in history {
                if m.removed {
                    break;
                }
                let Some(request) = request else {
                    m.lose_the_vm();
                    continue;
                };
                if let Ok(action) = decide(&m.phase, request, m.snapshot, on_timeout) {
                    m.carry_out(action, succeeds);
                }
                prop_assert!(m.vms <= 1);
                prop_assert_eq!(m.vms == 1, m.phase == DurablePhase::Running && !m.removed);
                prop_assert!(m.snapshot || m.phase != DurablePhase::Paused);
            }
        }
    }

    #[test]
    fn a_paused_sandbox_is_not_paused_again_and_a_lost_one_resumes_only_from_a_snapshot() {
        let lost = DurablePhase::Lost { reason: "gone".into() };
        assert!(decide(&DurablePhase::Paused, Request::Pause, true, OnTimeout::Kill).is_err());
        assert!(decide(&lost, Request::Connect, false, OnTimeout::Kill).is_err());
        assert_eq!(decide(&lost, Request::Connect, true, OnTimeout::Kill), Ok(Action::Resume));
    }

    #[test]
    fn time_only_ends_what_runs() {
        assert_eq!(decide(&DurablePhase::Paused, Request::Expire, true, OnTimeout::Kill), Ok(Action::Nothing));
        assert_eq!(decide(&DurablePhase::Running, Request::Expire, false, OnTimeout::Kill), Ok(Action::Remove));
        assert_eq!(decide(&DurablePhase::Running, Request::Expire, false, OnTimeout::Pause), Ok(Action::Pause));
    }
}
