//! [`Qemu`] as a [`Vmm`].

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use dormouse_guest_mem::{Bytes, RamLayout};

use super::probe::Qemu;
use super::{adopt, command_line, launch, layout};
use crate::{Boot, Fingerprint, Result, Vm, VmSpec, Vmm};

#[async_trait]
impl Vmm for Qemu {
    fn fingerprint(&self, spec: &VmSpec) -> Fingerprint {
        command_line::fingerprint(&self.facts, spec, &self.extra_args)
    }

    fn layout(&self, ram: Bytes) -> Result<RamLayout> {
        layout::q35(ram)
    }

    async fn boot(&self, dir: &Path, spec: &VmSpec, boot: &Boot) -> Result<Arc<dyn Vm>> {
        Ok(Arc::new(launch::boot(self, dir, spec, boot).await?))
    }

    async fn restore(&self, dir: &Path, spec: &VmSpec, state: &Path, ram: &Path) -> Result<Arc<dyn Vm>> {
        Ok(Arc::new(launch::restore(self, dir, spec, state, ram).await?))
    }

    async fn adopt(&self, dir: &Path) -> Result<Arc<dyn Vm>> {
        Ok(Arc::new(adopt::adopt(self, dir).await?))
    }
}
