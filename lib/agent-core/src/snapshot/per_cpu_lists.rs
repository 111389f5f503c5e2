//! Pages that the kernel freed but keeps at hand.
//!
//! Each CPU has lists of free pages per zone (`mm/page_alloc.c`), tens of MiB together. Such a page is in no buddy list
//! and so looks used to whoever reads the page structures: its stale bytes would be stored. No file drains the lists,
//! but they are cut back whenever a page is freed onto one that is longer than it may be, and how long that is can be set.

use std::fs::{self, File};
use std::io::{self, Write};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::facts::memory;
use super::steps::Done;

/// Share of a zone's pages that its lists may hold: one part in so many. 0 lets the kernel choose
/// (`Documentation/admin-guide/sysctl/vm.rst`).
const LIMIT: &str = "/proc/sys/vm/percpu_pagelist_high_fraction";
/// A fraction so small that the kernel's lower bound for a list applies, about 1 MiB.
const SHORTEST: &str = "1000000";
/// Pages freed on each CPU. Each cuts a list that is too long by about 190 pages, and none holds more than an eighth
/// of its zone.
const FREED: usize = 1024;

/// Cuts the lists of all CPUs back, as far as their pages are of the zone that new memory comes from.
pub(super) fn drain() -> io::Result<Done> {
    let before = memory().free;
    let limit = fs::read_to_string(LIMIT)?;
    fs::write(LIMIT, SHORTEST)?;
    let freed = free_pages_on_every_cpu();
    fs::write(LIMIT, limit.trim_end())?;
    freed?;
    Ok(Done { bytes: memory().free.saturating_sub(before), detail: None })
}

fn free_pages_on_every_cpu() -> io::Result<()> {
    let own = sched_getaffinity(None)?;
    let on_all = (0..CpuSet::MAX_CPU).filter(|cpu| own.is_set(*cpu)).try_for_each(|cpu| {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
        free_pages()
    });
    sched_setaffinity(None, &own)?;
    on_all
}

/// Allocates pages and frees them at once.
fn free_pages() -> io::Result<()> {
    let mut file = File::from(memfd_create("drain", MemfdFlags::CLOEXEC)?);
    let page = [1u8; 4096];
    (0..FREED).try_for_each(|_| file.write_all(&page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_freed_on_every_cpu_and_the_thread_goes_back_to_where_it_may_run() {
        let before = sched_getaffinity(None).unwrap();
        free_pages_on_every_cpu().unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
