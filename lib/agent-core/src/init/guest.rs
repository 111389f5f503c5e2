//! What changes in a guest at the start of a life, step by step.
//!
//! Each step is worth having without the others, so neither a failure nor an overrun of one stops the next; the console tells. All
//! end before user processes run on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::checked::Checked;
use super::settings::Done;
use super::{hosts, machine_id, set_hostname};
use crate::agent::{Agent, Guest};
use crate::kernel::GuestKernel;
use crate::offload::Offload;

/// Longest time for one step. All are quick; only a disk or a file system that does not answer takes so long.
const STEP_LIMIT: Duration = Duration::from_secs(2);

struct Steps<'a> {
    calls: &'a Offload,
    guest: &'a Guest,
}

impl Steps<'_> {
    /// True when it was done.
    async fn run(&self, what: &'static str, step: impl FnOnce(&Guest) -> io::Result<()> + Send + 'static) -> bool {
        let guest = self.guest.clone();
        let call = self.calls.call(what, move || step(&guest));
        let result = tokio::time::timeout(STEP_LIMIT, call).await;
        let problem = match result {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "not in time".to_owned(),
        };
        complain(what, &problem);
        false
    }
}

fn complain(what: &str, problem: &str) {
    crate::boot::log(&format!("init: cannot {what}: {problem}"));
}

/// Does what `checked` asks for. Time comes first, since files get it; then the generator, since a machine id comes from it.
pub(super) async fn change(agent: &Agent, checked: &Checked, done: &mut Done) {
    let Some(guest) = &agent.guest else { return };
    let steps = Steps { calls: agent.settings.calls(), guest };
    match checked.timestamp {
        Some(time) => steps.run("step the clock", move |guest| guest.kernel.step_clock(time)).await,
        None => steps.run("step the clock", step_clock_alone).await,
    };
    let bytes = checked.entropy.clone().unwrap_or_default();
    steps.run("reseed the random generator", move |guest| guest.kernel.reseed(&bytes)).await;
    if let Some(name) = checked.request.hostname.clone() {
        let renamed = agent.settings.hostname().as_ref() != Some(&name);
        steps.run("set the host name", move |guest| set_hostname(&*guest.kernel, &guest.root, &name)).await;
        if renamed {
            steps.run("make a machine id", |guest| machine_id::renew(&guest.root)).await;
        }
    }
    if let Some(address) = checked.events {
        steps.run("name the address for events", move |guest| hosts::set_events(&guest.root, address)).await;
    }
    if let Some(bundle) = checked.ca_bundle.clone().filter(|bundle| done.ca_bundle.as_ref() != Some(bundle)) {
        let wanted = bundle.clone();
        if steps.run("install the certificates", move |guest| bundle.install(&guest.root)).await {
            done.ca_bundle = Some(wanted);
        }
    }
    if let Some(wanted) = &checked.volumes {
        let lifecycle = checked.request.lifecycle_id.clone().or_else(|| agent.settings.lifecycle_id());
        let problems = done.volumes.set(guest, steps.calls, wanted, lifecycle.as_deref()).await;
        problems.iter().for_each(|problem| complain("keep the volumes as they are to be", problem));
    }
}

/// What can be done without the host: the clock from the hardware clock, a new key for the random generator.
pub(crate) async fn recover_alone(agent: &Agent) {
    let Some(guest) = &agent.guest else { return };
    let steps = Steps { calls: agent.settings.calls(), guest };
    steps.run("step the clock", step_clock_alone).await;
    steps.run("reseed the random generator", |guest| guest.kernel.reseed(&[])).await;
}

fn step_clock_alone(guest: &Guest) -> io::Result<()> {
    let kernel: &Arc<dyn GuestKernel> = &guest.kernel;
    kernel.step_clock(kernel.hardware_clock()?)
}
