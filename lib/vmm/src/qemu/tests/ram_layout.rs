//! The layout that we compute, compared with the one that QEMU makes.

use super::*;

#[tokio::test]
async fn ram_lies_where_qemu_says_below_and_above_the_hole() {
    let bench = Bench::new().await;
    for mib in [512, 2048, 2815, 2816, 6144] {
        let dir = bench.dir(&mib.to_string());
        let spec = VmSpec { ram: Bytes::mib(mib), ..bench.spec(&dir) };
        let vm = launch::boot(&bench.qemu, &dir, &spec, &bench.program(guest::Program::Count)).await.unwrap();
        vm.pause().await.unwrap();
        let view = vm.command("human-monitor-command", json!({"command-line": "info mtree -f"}), SOON).await.unwrap();
        vm.kill().await.unwrap();

        let ranges = ram_ranges(view.as_str().unwrap());
        for r in &ranges {
            let ours = vm.layout().offset_of(dormouse_guest_mem::GuestAddr(r.guest), r.len);
            assert_eq!(ours, Some(r.offset), "{mib} MiB, {r:x?}");
        }
        // Firmware hides some RAM below 1 MiB behind ROM.
        let seen = ranges.iter().map(|r| r.len).sum::<u64>();
        assert!(seen <= spec.ram.0 && seen > spec.ram.0 - (1 << 20), "{mib} MiB, but QEMU shows {seen} bytes");
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    guest: u64,
    offset: u64,
    len: u64,
}

/// Lines such as `  0000000100000000-00000001bfffffff (prio 0, ram): ram @0000000080000000 KVM` of the view of memory
/// that the CPUs have.
fn ram_ranges(view: &str) -> Vec<Seen> {
    let cpu = view.split("FlatView #").find(|v| v.contains("AS \"memory\"")).unwrap();
    let ranges = cpu.lines().filter_map(|line| {
        let (range, rest) = line.trim().split_once(' ')?;
        let rest = rest.strip_prefix("(prio 0, ram): ram").or(rest.strip_prefix("(prio 0, rom): ram"))?;
        let (start, last) = range.split_once('-')?;
        let hex = |t: &str| u64::from_str_radix(t, 16).unwrap();
        let offset = rest.split_once('@').map_or(0, |(_, o)| hex(o.split_whitespace().next().unwrap()));
        Some(Seen { guest: hex(start), offset, len: hex(last) + 1 - hex(start) })
    });
    ranges.collect()
}
