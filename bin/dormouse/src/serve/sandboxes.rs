//! What the server needs of a host, so that tests can put failures in its place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dormouse_lifecycle::{
    BuildProgress, BuildRequest, Built, Connected, Endpoint, Garbage, Host, Inspection, NewSandbox, PauseOptions,
    RamMap, Result, SandboxId, SandboxInfo, SnapshotId, SnapshotInfo, StoreStats, TemplateInfo, TemplateName,
    Verification, VerifyReport, VerifyWatch,
};

/// The host's requests, one to one; see [`Host`].
#[async_trait]
pub(crate) trait Sandboxes: Send + Sync + 'static {
    async fn create(&self, new: NewSandbox) -> Result<SandboxInfo>;
    fn get(&self, id: &SandboxId) -> Result<SandboxInfo>;
    fn list(&self) -> Vec<SandboxInfo>;
    async fn pause(&self, id: &SandboxId, options: PauseOptions) -> Result<SnapshotId>;
    async fn connect(&self, id: &SandboxId, timeout: Duration) -> Result<(SandboxInfo, Connected)>;
    async fn fork(&self, id: &SandboxId, count: usize, timeout: Duration) -> Result<Vec<Result<SandboxInfo>>>;
    async fn kill(&self, id: &SandboxId) -> Result<()>;
    async fn set_timeout(&self, id: &SandboxId, timeout: Duration) -> Result<()>;
    async fn endpoint(&self, id: &SandboxId) -> Result<Endpoint>;
    async fn console(&self, id: &SandboxId) -> Result<Vec<u8>>;
    async fn build_template(
        &self,
        name: TemplateName,
        request: BuildRequest,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<(TemplateInfo, Built)>;
    fn templates(&self) -> Vec<TemplateInfo>;
    async fn remove_template(&self, name: &TemplateName) -> Result<()>;
    async fn checkpoint(&self, id: &SandboxId, name: Option<TemplateName>) -> Result<SnapshotInfo>;
    fn snapshots(&self) -> Vec<SnapshotInfo>;
    async fn remove_snapshot(&self, id_or_name: &str) -> Result<()>;
    async fn inspect(&self, snapshot: &SnapshotId) -> Result<Inspection>;
    async fn ram_map(&self, snapshot: &SnapshotId) -> Result<RamMap>;
    async fn store_stats(&self) -> Result<StoreStats>;
    async fn verify_store(&self, wanted: Verification, watch: Arc<dyn VerifyWatch>) -> Result<VerifyReport>;
    async fn collect_garbage(&self, dry_run: bool) -> Result<Garbage>;
    async fn collect_remote_garbage(&self, dry_run: bool) -> Result<Garbage>;
}

#[async_trait]
impl Sandboxes for Host {
    async fn create(&self, new: NewSandbox) -> Result<SandboxInfo> {
        self.create(new).await
    }

    fn get(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.get(id)
    }

    fn list(&self) -> Vec<SandboxInfo> {
        self.list()
    }

    async fn pause(&self, id: &SandboxId, options: PauseOptions) -> Result<SnapshotId> {
        self.pause(id, options).await
    }

    async fn connect(&self, id: &SandboxId, timeout: Duration) -> Result<(SandboxInfo, Connected)> {
        self.connect(id, timeout).await
    }

    async fn fork(&self, id: &SandboxId, count: usize, timeout: Duration) -> Result<Vec<Result<SandboxInfo>>> {
        self.fork(id, count, timeout).await
    }

    async fn kill(&self, id: &SandboxId) -> Result<()> {
        self.kill(id).await
    }

    async fn set_timeout(&self, id: &SandboxId, timeout: Duration) -> Result<()> {
        self.set_timeout(id, timeout).await
    }

    async fn endpoint(&self, id: &SandboxId) -> Result<Endpoint> {
        self.endpoint(id).await
    }

    async fn console(&self, id: &SandboxId) -> Result<Vec<u8>> {
        self.console(id).await
    }

    async fn build_template(
        &self,
        name: TemplateName,
        request: BuildRequest,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<(TemplateInfo, Built)> {
        self.build_template(name, request, progress).await
    }

    fn templates(&self) -> Vec<TemplateInfo> {
        self.templates()
    }

    async fn remove_template(&self, name: &TemplateName) -> Result<()> {
        self.remove_template(name).await
    }

    async fn checkpoint(&self, id: &SandboxId, name: Option<TemplateName>) -> Result<SnapshotInfo> {
        self.checkpoint(id, name).await
    }

    fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.snapshots()
    }

    async fn remove_snapshot(&self, id_or_name: &str) -> Result<()> {
        self.remove_snapshot(id_or_name).await
    }

    async fn inspect(&self, snapshot: &SnapshotId) -> Result<Inspection> {
        self.inspect(snapshot).await
    }

    async fn ram_map(&self, snapshot: &SnapshotId) -> Result<RamMap> {
        self.ram_map(snapshot).await
    }

    async fn store_stats(&self) -> Result<StoreStats> {
        self.store_stats().await
    }

    async fn verify_store(&self, wanted: Verification, watch: Arc<dyn VerifyWatch>) -> Result<VerifyReport> {
        self.verify_store(wanted, watch).await
    }

    async fn collect_garbage(&self, dry_run: bool) -> Result<Garbage> {
        self.collect_garbage(dry_run).await
    }

    async fn collect_remote_garbage(&self, dry_run: bool) -> Result<Garbage> {
        self.collect_remote_garbage(dry_run).await
    }
}
