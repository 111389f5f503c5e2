//! The task that looks, decides and acts, for as long as the agent serves.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::figures::Figures;
use super::policy::{MemorySample, Pace, Plan, ReclaimStep, Reclaimed, State};
use crate::agent::{Agent, Guest};
use crate::offload::Offload;

/// A look or a step takes some milliseconds; one that hangs is left alone and does not keep a snapshot waiting any longer.
const LIMIT: Duration = Duration::from_secs(5);
/// Looks that are left out after one that failed: most likely this kernel cannot do it.
const AFTER_FAILURE: u32 = 60;

/// Whether memory is reclaimed, and what that has brought.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    enabled: AtomicBool,
    calls: Offload,
    figures: Mutex<Figures>,
}

impl Default for Reclaimer {
    fn default() -> Self {
        Self { enabled: AtomicBool::new(true), calls: Offload::default(), figures: Mutex::default() }
    }
}

impl Reclaimer {
    /// Lets it reclaim, or not; a step under way is completed.
    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self) -> Figures {
        self.with(|figures| *figures)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Figures) -> T) -> T {
        f(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let called = tokio::time::timeout(LIMIT, self.calls.call(name, call)).await;
        called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn look(&self, guest: &Guest) -> io::Result<MemorySample> {
        let kernel = Arc::clone(&guest.kernel);
        self.call("look at memory", move || kernel.memory()).await
    }

    async fn take(&self, guest: &Guest, step: ReclaimStep) -> io::Result<Reclaimed> {
        let kernel = Arc::clone(&guest.kernel);
        self.call("reclaim", move || kernel.reclaim(step)).await
    }
}

/// Reclaims until it is dropped. Without a guest it does nothing.
pub(crate) async fn run(agent: &Agent) {
    let Some(guest) = &agent.guest else { return std::future::pending().await };
    let pace = Pace { look: agent.durations.reclaim_look, calm: agent.durations.reclaim_calm };
    let mut state = State::default();
    let mut told = false;
    loop {
        let (next, pause) = match round(agent, guest, state, &pace).await {
            Ok((next, plan)) => (next, plan.look_again),
            Err(error) => {
                agent.reclaimer.with(Figures::failure);
                if !std::mem::replace(&mut told, true) {
                    crate::boot::log(&format!("cannot reclaim memory: {error}"));
                }
                (state.afresh(), pace.look.saturating_mul(AFTER_FAILURE))
            }
        };
        state = next;
        tokio::time::sleep(pause).await;
    }
}

async fn round(agent: &Agent, guest: &Guest, state: State, pace: &Pace) -> io::Result<(State, Plan)> {
    let reclaimer = &agent.reclaimer;
    let kept_out = |state: State| Ok((state.afresh(), Plan { names_freed: 0, step: None, look_again: pace.look }));
    if !reclaimer.is_enabled() || !agent.snapshot.is_running() {
        return kept_out(state);
    }
    let sample = reclaimer.look(guest).await?;
    let (state, plan) = state.next(&sample, pace);
    reclaimer.with(|figures| figures.look(plan.names_freed, sample.refaulted));
    let Some(step) = plan.step else { return Ok((state, plan)) };
    // A snapshot waits for what has begun, and until it is over nothing begins.
    let Some(_active) = agent.snapshot.activity().begin() else { return kept_out(state) };
    let got = reclaimer.take(guest, step).await?;
    reclaimer.with(|figures| figures.step(&got, sample.refaulted));
    Ok((state.after(step, &got), plan))
}
