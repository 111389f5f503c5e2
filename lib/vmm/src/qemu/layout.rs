//! Where q35 puts RAM.

use dormouse_guest_mem::{Bytes, GuestAddr, RamLayout, RamRegion};

use crate::{Result, VmmError};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// From this size on RAM is split, so that the hole below 4 GiB can be 2 GiB large and gigabyte-aligned
/// (`pc_q35_init` in QEMU's `hw/i386/pc_q35.c`).
const SPLIT_FROM: u64 = 0xb000_0000;
const BELOW_HOLE: u64 = 2 * GIB;
const ABOVE_HOLE: u64 = 4 * GIB;

/// The layout of `ram` bytes on q35.
pub(super) fn q35(ram: Bytes) -> Result<RamLayout> {
    if ram.0 == 0 || !ram.0.is_multiple_of(MIB) {
        return Err(VmmError::BadSpec { reason: format!("RAM must be a multiple of 1 MiB, not {} bytes", ram.0) });
    }
    let below = if ram.0 >= SPLIT_FROM { BELOW_HOLE } else { ram.0 };
    let mut regions = vec![RamRegion { guest: GuestAddr(0), offset: 0, len: below }];
    if ram.0 > below {
        regions.push(RamRegion { guest: GuestAddr(ABOVE_HOLE), offset: below, len: ram.0 - below });
    }
    RamLayout::new(regions).map_err(|source| VmmError::Layout { ram, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(ram: u64) -> Vec<(u64, u64)> {
        q35(Bytes(ram)).unwrap().regions().iter().map(|r| (r.guest.0, r.guest.0 + r.len)).collect()
    }

    #[test]
    fn ram_is_split_around_the_hole_only_when_it_would_reach_into_it() {
        assert_eq!(ends(512 * MIB), [(0, 512 * MIB)]);
        assert_eq!(ends(SPLIT_FROM - MIB), [(0, SPLIT_FROM - MIB)]);
        assert_eq!(ends(SPLIT_FROM), [(0, 2 * GIB), (4 * GIB, 4 * GIB + SPLIT_FROM - 2 * GIB)]);
        assert_eq!(ends(6 * GIB), [(0, 2 * GIB), (4 * GIB, 8 * GIB)]);
    }

    #[test]
    fn sizes_that_no_vm_can_have_are_refused() {
        assert!(matches!(q35(Bytes(0)), Err(VmmError::BadSpec { .. })));
        assert!(matches!(q35(Bytes(MIB + 1)), Err(VmmError::BadSpec { .. })));
        assert!(matches!(q35(Bytes(u64::MAX - MIB + 1)), Err(VmmError::Layout { .. })));
    }
}
