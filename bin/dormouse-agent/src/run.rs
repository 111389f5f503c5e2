//! Running the agent, in a guest or as a plain process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dormouse_agent_core::{Agent, AgentOptions, boot, raise_descriptor_limit, serve};
use tokio::runtime::{Builder, Runtime};

/// Port of the agent in every guest.
const PORT: u16 = 49983;

/// One thread for everything that does not block, and a few that come and go for what does: small and quick to restore.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(8).thread_keep_alive(Duration::from_secs(2)).build()
}

/// As PID 1. Returns only when the guest could not be powered off after a failure.
pub(crate) fn guest() {
    let result = boot::boot().map_err(anyhow::Error::from).and_then(|booted| {
        let mut options = AgentOptions::plain("user");
        options.guest = Some(booted.guest);
        options.guest_addresses = booted.addresses;
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        runtime()?.block_on(run(options, listen, || boot::log("ready")))
    });
    boot::fail(&result.err().map_or_else(|| "ended".to_owned(), |error| format!("{error:#}")));
}

/// As a plain process.
pub(crate) fn plain(listen: SocketAddr) -> anyhow::Result<()> {
    let options = AgentOptions::plain(Agent::own_user());
    runtime()?.block_on(run(options, listen, || {}))
}

async fn run(mut options: AgentOptions, listen: SocketAddr, ready: impl FnOnce()) -> anyhow::Result<()> {
    let in_guest = options.guest.is_some();
    options.open_files = raise_descriptor_limit().context("cannot raise the limit of open files")?;
    let agent = Agent::new(options);
    let listener = dormouse_agent_core::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    ready();
    if in_guest {
        tokio::select! {
            () = serve(Arc::clone(&agent), listener) => {}
            reaped = agent.reap_orphans() => reaped.context("cannot reap orphans")?,
        }
    } else {
        serve(agent, listener).await;
    }
    Ok(())
}
