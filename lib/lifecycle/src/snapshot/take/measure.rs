//! Counting what other methods would keep.

use std::sync::Arc;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, RamSource, is_zero};
use dormouse_vmm::Vm;

use crate::{Error, Result};

/// Stops the guest for a moment and counts its non-zero RAM.
pub(super) async fn measure_running(vm: &Arc<dyn Vm>) -> Result<Bytes> {
    vm.pause().await.map_err(Error::vmm)?;
    let reader = Arc::clone(vm);
    let counted = crate::blocking(move || count_non_zero(&*reader.paused_ram().map_err(Error::vmm)?)).await;
    vm.resume().await.map_err(Error::vmm)?;
    counted
}

/// Non-zero pages of the whole RAM, as bytes.
pub(super) fn count_non_zero(ram: &dyn RamSource) -> Result<Bytes> {
    let failed = || Error::io("read the guest's RAM");
    let mut chunk = vec![0u8; 256 * PAGE_SIZE];
    let mut pages = 0u64;
    for range in ram.populated().map_err(failed())? {
        let mut at = range.start;
        while at < range.end {
            let take = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(chunk.len());
            let Some(part) = chunk.get_mut(..take) else { break };
            ram.read_at(at, part).map_err(failed())?;
            pages += part.chunks(PAGE_SIZE).filter(|page| !is_zero(page)).count() as u64;
            at += take as u64;
        }
    }
    Ok(Bytes::of_pages(pages))
}
