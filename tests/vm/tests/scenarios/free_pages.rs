//! The pages that the host calls free, compared with what the guest's own kernel says of them.

use std::time::{Duration, Instant};

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageClass, PageIndex, PageSet, is_zero};
use dormouse_introspect::{Request, Survey, survey};
use dormouse_templates::KernelLine;
use dormouse_vm_tests::{Booted, Machine, block_on, oracle_buddy};

#[test]
fn stable_kernel_512_mib_5_levels() {
    check(&Machine { kernel: KernelLine::Stable, five_level_paging: true, ram: Bytes::mib(512) }, WORKLOAD);
}

#[test]
fn stable_kernel_2_gib_4_levels() {
    check(&Machine { kernel: KernelLine::Stable, five_level_paging: false, ram: Bytes::mib(2048) }, WORKLOAD);
}

#[test]
fn stable_kernel_6_gib_5_levels_on_both_sides_of_the_hole() {
    check(&Machine { kernel: KernelLine::Stable, five_level_paging: true, ram: Bytes::mib(6144) }, WORKLOAD);
}

#[test]
fn backports_kernel_512_mib_4_levels() {
    check(&Machine { kernel: KernelLine::Backports, five_level_paging: false, ram: Bytes::mib(512) }, WORKLOAD);
}

#[test]
fn backports_kernel_2_gib_5_levels() {
    check(&Machine { kernel: KernelLine::Backports, five_level_paging: true, ram: Bytes::mib(2048) }, WORKLOAD);
}

#[test]
fn backports_kernel_6_gib_4_levels_on_both_sides_of_the_hole() {
    check(&Machine { kernel: KernelLine::Backports, five_level_paging: false, ram: Bytes::mib(6144) }, WORKLOAD);
}

#[test]
fn the_demos_own_workload() {
    let machine = Machine { kernel: KernelLine::Stable, five_level_paging: false, ram: Bytes::mib(1024) };
    check(&machine, &demo_workload());
}

/// What `./demo` runs in its sandbox, taken from that script.
fn demo_workload() -> String {
    let parts = include_str!("../../../../demo").split("in_it '").skip(1);
    let parts: Vec<_> = parts.filter_map(|part| Some(part.split_once("'\n")?.0)).collect();
    assert!(parts.len() >= 4 && parts.iter().any(|part| part.contains("/dev/shm/dead")), "{parts:?}");
    parts.join("\n")
}

/// Memory of every kind: page cache, tmpfs, a living process, and much that was used and freed again.
const WORKLOAD: &str = "
    find /usr -xdev -type f -exec cat {} + > /dev/null
    head -c 50M /dev/urandom > /dev/shm/live
    head -c 100M /dev/urandom > /dev/shm/dead; rm /dev/shm/dead
    setsid python3 -c 'import time; keep = [bytes([i % 251]) * 5000 for i in range(4000)]; time.sleep(3600)' > /dev/null 2>&1 &
    sleep 3; echo 1 > /proc/sys/vm/compact_memory; sleep 1";

fn check(case: &Machine, workload: &str) {
    block_on(async {
        let booted = Booted::new(case).await;
        let guest = booted.guest();
        let release = guest.sh("uname -r").await;
        guest.sh(workload).await;
        booted.prepare_and_abort("drop").await;
        let note = guest.sh("cat /sys/kernel/vmcoreinfo").await;
        let levels = guest.sh("grep -c -w la57 /proc/cpuinfo || true").await;
        assert_eq!(levels == "1", case.five_level_paging, "the guest has the page tables that were asked for");

        let layout = booted.vm.layout().clone();
        let (flags_before, buddy_before) = oracle_buddy(&guest, &layout).await;
        let mem_free = guest.sh("awk '/MemFree/{print $2}' /proc/meminfo").await.parse::<u64>().unwrap() << 10;
        booted.vm.pause().await.unwrap();
        let ram = booted.vm.paused_ram().unwrap();
        let started = Instant::now();
        let request =
            Request { ram: &*ram, layout: &layout, note: Some(note.parse().unwrap()), mem_free: Some(Bytes(mem_free)) };
        let found = survey(&request).unwrap();
        let took = started.elapsed();
        let (non_zero, kept) = count(&*ram, &found.free, &buddy_before);
        drop(ram);
        booted.vm.resume().await.unwrap();
        let (_, buddy_after) = oracle_buddy(&guest, &layout).await;
        booted.vm.kill().await.unwrap();

        report(case, &release, &found, &buddy_before, non_zero, kept, took);
        assert_eq!(found.kernel.page_table_levels, if case.five_level_paging { 5 } else { 4 });
        no_page_in_use_is_free(&found, &flags_before, &buddy_before, &buddy_after);
        let share = f64::from(found.free.intersection(&buddy_before).len()) / f64::from(buddy_before.len());
        assert!(share >= 0.95, "only {:.1} % of the guest's free pages were found", share * 100.0);
        let bound = non_zero.0 as f64 * 1.05;
        assert!(kept.0 as f64 <= bound, "kept {kept}, non-zero and not free {non_zero}");
    });
}

/// A page that the host found free at the stop must have been free by the guest's own account right before it or right
/// after it: what was in use in both looks was in use at the stop.
fn no_page_in_use_is_free(found: &Survey, flags: &[u64], before: &PageSet, after: &PageSet) {
    let culprits = found.free.difference(before).difference(after);
    let shown: Vec<_> = culprits.iter().take(8).map(|page| (page, flags[page.0 as usize])).collect();
    assert!(culprits.is_empty(), "{} pages in use were called free, with these flags: {shown:x?}", culprits.len());
    assert!(found.free.iter().all(|page| found.classes.get(page) == PageClass::Free));
}

/// Bytes that are neither zero nor free by the oracle, and bytes that the host keeps.
fn count(ram: &dyn dormouse_guest_mem::RamSource, free: &PageSet, buddy: &PageSet) -> (Bytes, Bytes) {
    let (mut by_oracle, mut kept) = (0, 0);
    let mut page_bytes = vec![0; PAGE_SIZE];
    for range in ram.populated().unwrap() {
        for offset in (range.start..range.end).step_by(PAGE_SIZE) {
            ram.read_at(offset, &mut page_bytes).unwrap();
            if is_zero(&page_bytes) {
                continue;
            }
            let page = PageIndex(u32::try_from(offset >> 12).unwrap());
            by_oracle += u64::from(!buddy.contains(page));
            kept += u64::from(!free.contains(page));
        }
    }
    (Bytes::of_pages(by_oracle), Bytes::of_pages(kept))
}

fn report(
    case: &Machine,
    release: &str,
    found: &Survey,
    buddy: &PageSet,
    non_zero: Bytes,
    kept: Bytes,
    took: Duration,
) {
    let only_host = found.free.difference(buddy).len();
    println!(
        "{release}, {} RAM, {} levels: guest's free list {}, host found {} ({} pages beyond it); \
         non-zero and not free {non_zero}, kept {kept} (ratio {:.4}); {} of page structures read in {took:?}",
        case.ram,
        found.kernel.page_table_levels,
        buddy.bytes(),
        found.free.bytes(),
        only_host,
        kept.0 as f64 / non_zero.0 as f64,
        Bytes(found.work.bytes_read),
    );
}
