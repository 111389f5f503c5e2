//! Letting a guest go on that was asked to get ready.

use std::sync::Arc;

use dormouse_vmm::Vm;

use crate::agent::Agent;
use crate::host::Shared;
use crate::{Error, Result};

/// How often a VM that does not go on after a failed pause is told to.
const RESUME_TRIES: u32 = 3;

/// Lets the guest go on after an attempt that failed with `error`; gives the error to report.
pub(crate) async fn call_off(shared: &Shared, vm: &Arc<dyn Vm>, agent: &Agent, error: Error) -> Error {
    match let_go_on(shared, vm, agent).await {
        Ok(()) => error,
        Err(stuck) => Error::Vmm(format!("{error}; and the VM could not go on afterwards: {stuck}")),
    }
}

/// Lets the guest run, and tells its agent that no snapshot follows.
pub(crate) async fn let_go_on(shared: &Shared, vm: &Arc<dyn Vm>, agent: &Agent) -> Result<()> {
    let mut resumed = vm.resume().await;
    for _ in 1..RESUME_TRIES {
        if resumed.is_ok() {
            break;
        }
        resumed = vm.resume().await;
    }
    resumed.map_err(Error::vmm)?;
    no_snapshot_follows(shared, agent).await;
    Ok(())
}

/// Tells the agent of a guest that runs that it can go on with its work.
pub(super) async fn no_snapshot_follows(shared: &Shared, agent: &Agent) {
    if let Err(error) = agent.abort(&shared.limits).await {
        tracing::warn!(%error, "the agent did not confirm that the pause is called off; its watchdog will do it");
    }
}
