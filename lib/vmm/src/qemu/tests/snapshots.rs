//! Saving, restoring, and reading RAM.

use std::ops::Range;

use super::guest::{COUNTER, Program, WRITTEN_FROM, WRITTEN_PAGES};
use super::*;
use crate::{RunState, VmmError};
use dormouse_guest_mem::{PAGE_SIZE, PageIndex, PageSet};

fn count(ram: &[u8]) -> u32 {
    u32::from_le_bytes(ram[COUNTER..COUNTER + 4].try_into().unwrap())
}

fn page_bytes(run: &Range<u32>) -> Range<usize> {
    run.start as usize * PAGE_SIZE..run.end as usize * PAGE_SIZE
}

/// Lets a paused VM run until its guest has gone on for a good while, and pauses it.
async fn run_on(vm: &QemuVm) {
    vm.resume().await.unwrap();
    assert_eq!(vm.run_state().await.unwrap(), RunState::Running);
    tokio::time::sleep(Duration::from_millis(300)).await;
    vm.pause().await.unwrap();
}

#[tokio::test]
async fn a_booted_vms_ram_reads_as_qemu_sees_it() {
    let bench = Bench::new().await;
    let vm = bench.boot("vm", Program::Count).await;
    vm.pause().await.unwrap();
    // First: when QEMU reads untouched pages itself, they are allocated.
    let known = vm.paused_ram().unwrap().populated().unwrap().iter().map(|r| r.end - r.start).sum::<u64>();
    assert!(known < RAM.0 / 2, "untouched RAM should be known to be zero, but {known} bytes are populated");
    assert_eq!(vm.ram_written().unwrap().0, known, "what is populated is what was written");
    let ram = populated(vm.paused_ram().unwrap().as_ref());
    assert!(ram == seen_by_qemu(&vm, &bench.dir("vm")).await, "RAM differs from QEMU's view");
    assert!(count(&ram) > 0);
    let paused = vm.paused_ram().unwrap();
    assert!(paused.restored().is_none(), "it was not restored from anything");
    let counted = COUNTER / PAGE_SIZE;
    let mut copied = vec![0; 2 * PAGE_SIZE];
    paused.copy_pages(&[counted as u32..counted as u32 + 1, 256..257], &mut copied).unwrap();
    assert!(copied[..PAGE_SIZE] == ram[counted * PAGE_SIZE..][..PAGE_SIZE]);
    assert!(copied[PAGE_SIZE..] == ram[256 * PAGE_SIZE..][..PAGE_SIZE]);
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn two_vms_go_on_from_one_snapshot_each_for_itself_and_leave_it_as_it_was() {
    let bench = Bench::new().await;
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    let base = fs::read(&snapshot.ram).unwrap();

    let (one, two) = (bench.restore("one", &snapshot).await.unwrap(), bench.restore("two", &snapshot).await.unwrap());
    for clone in [&one, &two] {
        assert_eq!(clone.run_state().await.unwrap(), RunState::Paused);
        let ram = populated(clone.paused_ram().unwrap().as_ref());
        assert_eq!(count(&ram), count(&base));
    }
    run_on(&one).await;
    let after = populated(one.paused_ram().unwrap().as_ref());
    assert!(count(&after) > count(&base), "the first goes on");
    let other = populated(two.paused_ram().unwrap().as_ref());
    assert_eq!(count(&other), count(&base), "the second does not notice");
    run_on(&two).await;
    assert_eq!(blake3::hash(&base), blake3::hash(&fs::read(&snapshot.ram).unwrap()), "the RAM file has changed");
    one.kill().await.unwrap();
    two.kill().await.unwrap();
}

#[tokio::test]
async fn a_restored_vms_ram_is_the_file_and_exactly_the_pages_that_it_wrote() {
    let bench = Bench::new().await;
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    let base = fs::read(&snapshot.ram).unwrap();

    let clone = bench.restore("clone", &snapshot).await.unwrap();
    assert!(clone.ram_written().unwrap() < Bytes::of_pages(64), "loading a state may touch a few pages only");
    clone.resume().await.unwrap();
    until("the guest has written its pages", async || {
        clone.ram_written().unwrap() >= Bytes::of_pages(WRITTEN_PAGES as u64)
    })
    .await;
    run_on(&clone).await;
    let seen = seen_by_qemu(&clone, &bench.dir("clone")).await;
    let ram = clone.paused_ram().unwrap();
    let restored = ram.restored().unwrap();
    assert!(populated(ram.as_ref()) == seen, "populated ranges do not give what QEMU sees");
    assert!(populated(restored.file) == base, "what it was restored from is as it was");
    let mut unaligned = vec![0; seen.len() - 777];
    ram.read_at(777, &mut unaligned).unwrap();
    assert!(unaligned == seen[777..], "a read across copied and shared pages differs");

    for (page, (now, before)) in seen.chunks(PAGE_SIZE).zip(base.chunks(PAGE_SIZE)).enumerate() {
        assert!(
            now == before || restored.written.contains(PageIndex(page as u32)),
            "page {page} is not known to be written"
        );
    }
    let written = WRITTEN_FROM / PAGE_SIZE..WRITTEN_FROM / PAGE_SIZE + WRITTEN_PAGES;
    assert!(written.clone().all(|p| restored.written.contains(PageIndex(p as u32))));
    let surplus = restored.written.len() as usize - written.len();
    assert!(surplus < 64, "{surplus} pages more than the guest writes count as written");
    let its_own = written.start as u32..written.end as u32;
    for runs in [vec![its_own.clone()], vec![0..3, its_own.start + 1..its_own.end - 7, 900..901]] {
        let expected: Vec<u8> = runs.iter().flat_map(|run| seen[page_bytes(run)].to_vec()).collect();
        let mut copied = vec![0; expected.len()];
        ram.copy_pages(&runs, &mut copied).unwrap();
        assert!(copied == expected, "pages that were copied out differ: {runs:?}");
        assert!(ram.copy_pages(&runs, &mut copied[1..]).is_err(), "{runs:?} into too little room");
    }
    let mut past = [0; 2];
    assert!(ram.read_at(RAM.0 - 1, &mut past).is_err(), "reading past the end");
    clone.kill().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_a_restored_vm_restores_as_well() {
    let bench = Bench::new().await;
    let first = bench.snapshot_of_a_counting_guest().await;
    let clone = bench.restore("clone", &first).await.unwrap();
    run_on(&clone).await;
    let second = Snapshot::take(&bench, &clone, "second").await;
    run_on(&clone).await;
    clone.kill().await.unwrap();

    let grandchild = bench.restore("grandchild", &second).await.unwrap();
    let ram = populated(grandchild.paused_ram().unwrap().as_ref());
    let (first, second) = (fs::read(&first.ram).unwrap(), fs::read(&second.ram).unwrap());
    assert!(count(&first) < count(&second));
    let differing = ram.chunks(PAGE_SIZE).zip(second.chunks(PAGE_SIZE)).filter(|(a, b)| a != b).count();
    assert!(differing <= 8, "{differing} pages differ before the guest ran: loading a state may touch a few only");
    assert_eq!(count(&ram), count(&second));
    run_on(&grandchild).await;
    assert!(count(&populated(grandchild.paused_ram().unwrap().as_ref())) > count(&second));
    grandchild.kill().await.unwrap();
}

#[tokio::test]
async fn two_saves_of_one_pause_are_equal_and_need_the_pause() {
    let bench = Bench::new().await;
    let vm = bench.boot("vm", Program::Count).await;
    let running = vm.save_device_state("state").await.unwrap_err();
    assert!(matches!(running, VmmError::WrongState { needed: RunState::Paused, found: RunState::Running }));
    assert!(matches!(vm.paused_ram().err(), Some(VmmError::WrongState { .. })));
    vm.pause().await.unwrap();
    vm.pause().await.unwrap();
    let (one, two) = (vm.save_device_state("one").await.unwrap(), vm.save_device_state("two").await.unwrap());
    let (one, two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    assert!(one == two && one.len() > 10_000);
    for bad in ["", "..", "a/b", "/tmp/x"] {
        assert!(matches!(vm.save_device_state(bad).await, Err(VmmError::BadSpec { .. })), "{bad:?}");
    }
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn ram_of_a_vm_that_is_gone_cannot_be_read_where_it_wrote() {
    let bench = Bench::new().await;
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    let clone = bench.restore("clone", &snapshot).await.unwrap();
    run_on(&clone).await;
    let ram = clone.paused_ram().unwrap();
    let mut page = [0; PAGE_SIZE];
    ram.read_at(WRITTEN_FROM as u64, &mut page).unwrap();
    clone.kill().await.unwrap();
    assert!(ram.read_at(WRITTEN_FROM as u64, &mut page).is_err());
    assert!(clone.paused_ram().is_err());
}

/// Reads these pages into a copy of all RAM.
fn read_again(ram: &dyn RamSource, pages: &PageSet, copy: &mut [u8]) {
    for run in pages.ranges() {
        ram.read_at(PageIndex(run.start).offset(), &mut copy[page_bytes(&run)]).unwrap();
    }
}

#[tokio::test]
async fn ram_that_is_copied_while_the_vm_runs_is_its_ram_once_what_it_wrote_meanwhile_is_copied_again() {
    let bench = Bench::new().await;
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    let vm = bench.restore("vm", &snapshot).await.unwrap();

    for round in 0..3 {
        let mut followed = vm.follow_ram().unwrap();
        // It has written nothing yet in the first round, and all that it will in the others.
        if round == 0 {
            vm.resume().await.unwrap();
        }
        let mut copy = vec![0; followed.len() as usize];
        followed.read_at(0, &mut copy).unwrap();
        let (begin, mut counted) = (Instant::now(), 0);
        while counted < 5 {
            assert!(begin.elapsed() < SOON, "it counts on, and that is not noted");
            tokio::time::sleep(Duration::from_millis(5)).await;
            let written = followed.written_since().unwrap();
            counted += u32::from(written.contains(PageIndex((COUNTER / PAGE_SIZE) as u32)));
            assert!((written.len() as usize) < 2 * WRITTEN_PAGES, "{} pages", written.len());
            read_again(&*followed, &written, &mut copy);
        }
        vm.pause().await.unwrap();
        let last = followed.written_since().unwrap();
        read_again(&*followed, &last, &mut copy);
        assert!(followed.written_since().unwrap().is_empty(), "a paused VM writes nothing");
        let paused = vm.paused_ram().unwrap();
        assert!(copy == populated(&*paused), "a page that was written is missing");
        let (by_then, now) = (followed.restored().unwrap().written, paused.restored().unwrap().written);
        assert!(now.difference(by_then).is_empty(), "written, and not noted");
        vm.resume().await.unwrap();
    }
    vm.kill().await.unwrap();
}

#[tokio::test]
async fn a_vm_that_is_gone_or_was_booted_cannot_be_followed() {
    let bench = Bench::new().await;
    let booted = bench.boot("booted", Program::Count).await;
    assert!(matches!(booted.follow_ram(), Err(VmmError::Ram { .. })), "its RAM is shared");
    booted.kill().await.unwrap();
    let snapshot = bench.snapshot_of_a_counting_guest().await;
    let vm = bench.restore("vm", &snapshot).await.unwrap();
    let mut followed = vm.follow_ram().unwrap();
    vm.kill().await.unwrap();
    assert!(vm.follow_ram().is_err());
    assert!(followed.written_since().is_err());
}
