//! A VM that is looked at when it is stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, RamLayout};
use dormouse_vmm::{ExitReason, FollowedRam, PausedRam, Result, RunState, Vm, VmSpec, VmmError};

use super::{Eye, lock};

pub(super) struct WatchedVm {
    pub(super) inner: Arc<dyn Vm>,
    pub(super) eye: Arc<Eye>,
}

#[async_trait]
impl Vm for WatchedVm {
    fn pid(&self) -> u32 {
        self.inner.pid()
    }

    fn spec(&self) -> &VmSpec {
        self.inner.spec()
    }

    fn agent_addr(&self) -> SocketAddr {
        self.inner.agent_addr()
    }

    fn layout(&self) -> &RamLayout {
        self.inner.layout()
    }

    async fn run_state(&self) -> Result<RunState> {
        self.inner.run_state().await
    }

    async fn pause(&self) -> Result<()> {
        self.inner.pause().await?;
        let Some(look) = lock(&self.eye.look).take() else { return Ok(()) };
        let vm = Arc::clone(&self.inner);
        let looked = tokio::task::spawn_blocking(move || look(&*vm)).await;
        let looked = looked.map_err(anyhow::Error::from).flatten();
        looked.map_err(|error| VmmError::Ram { reason: format!("{error:#}") })
    }

    async fn resume(&self) -> Result<()> {
        self.inner.resume().await
    }

    async fn save_device_state(&self, file_in_dir: &str) -> Result<PathBuf> {
        self.inner.save_device_state(file_in_dir).await
    }

    fn paused_ram(&self) -> Result<Box<dyn PausedRam>> {
        self.inner.paused_ram()
    }

    fn follow_ram(&self) -> Result<Box<dyn FollowedRam>> {
        self.inner.follow_ram()
    }

    fn ram_written(&self) -> Result<Bytes> {
        self.inner.ram_written()
    }

    async fn console_tail(&self, bytes: usize) -> Vec<u8> {
        self.inner.console_tail(bytes).await
    }

    async fn kill(&self) -> Result<()> {
        self.inner.kill().await
    }

    async fn exited(&self) -> ExitReason {
        self.inner.exited().await
    }
}
