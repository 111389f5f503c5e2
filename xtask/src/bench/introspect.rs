//! What it costs to find the free pages of a real guest, and how fast zero pages are found.

use std::hint::black_box;

use anyhow::Context;
use dormouse_guest_mem::{Bytes, PAGE_SIZE, RamSource, is_zero};
use dormouse_introspect::{Request, find_note, survey};

use super::{least_cpu, rate, real_guest};

const GIB: u64 = 1 << 30;
/// Wanted: most CPU time per GiB of guest RAM.
const MOST_CPU_MS: f64 = 20.0;
/// Wanted: least speed of the zero scan on one core, in GB/s.
const LEAST_RATE: f64 = 5.0;

/// Prints the figures beside what is wanted. They never fail: a busy machine must not decide a test.
pub(crate) fn run() -> anyhow::Result<()> {
    introspection()?;
    zero_scan()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn introspection() -> anyhow::Result<()> {
    let guest = real_guest::load()?;
    let note = find_note(&guest, &guest.layout).context("the guest's RAM has no VMCOREINFO note")?;
    let request = Request { ram: &guest, layout: &guest.layout, note: Some(note), mem_free: None };
    let (cpu, found) = least_cpu(9, || Ok(survey(&request)?))?;
    let share = RamSource::len(&guest) as f64 / GIB as f64;
    let cpu_ms = cpu.as_secs_f64() * 1e3 / share;
    println!("introspection of a real guest, kernel {}, {} RAM", found.kernel.release, guest.layout.len());
    println!("  CPU per GiB of RAM        {cpu_ms:8.2} ms   (wanted: at most {MOST_CPU_MS})");
    println!("  read per GiB of RAM       {:8.2} MiB", Bytes(found.work.bytes_read).as_mib() / share);
    println!("  page structures read      {:8} of {}", found.work.struct_pages_read, guest.layout.pages());
    println!("  free pages found          {:8} ({} at the pause)", found.free.len(), guest.free_pages);
    Ok(())
}

fn zero_scan() -> anyhow::Result<()> {
    let zeros = vec![0u8; 256 << 20];
    // Touched once, so that it is memory and not the kernel's one zero page.
    let zeros: Vec<u8> = black_box(zeros.into_iter().map(|b| b | black_box(0)).collect());
    let (cpu, pages) = least_cpu(5, || Ok(zeros.chunks(PAGE_SIZE).filter(|page| is_zero(page)).count()))?;
    let speed = rate((pages * PAGE_SIZE) as u64, cpu);
    println!("zero scan");
    println!("  speed on one core         {speed:8.2} GB/s (wanted: at least {LEAST_RATE})");
    Ok(())
}
