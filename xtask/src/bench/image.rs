//! Writing and unpacking a memory image of a real guest.

use std::time::Instant;

use dormouse_guest_mem::{Bytes, PageClass};
use dormouse_image::{ImageReader, Omit, WriteOptions, write};

use super::{cpu_time, rate, real_guest};

pub(crate) fn run() -> anyhow::Result<()> {
    let guest = real_guest::load()?;
    let dir = tempfile::tempdir_in(crate::target_dir())?;
    let path = dir.path().join("memory.img");
    let out = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    let omit = Omit { free: None, class_of: &|_| PageClass::Unknown };

    let (before, started) = (cpu_time(), Instant::now());
    let summary = write(&guest, &guest.layout, &omit, &out, WriteOptions::default(), &())?;
    let (cpu, wall) = (cpu_time().saturating_sub(before), started.elapsed());
    let data = summary.data();
    println!("memory image of a real guest of {} ({data} not zero)", summary.ram);
    println!("  stored / not zero         {:8.3}", summary.file_len.as_mib() / data.as_mib());
    println!("  map and frame table       {:8} of {}", Bytes(summary.file_len.0 - summary.stored.0), summary.file_len);
    println!(
        "  written per second        {:8.2} GB of non-zero RAM ({:.2} GB per CPU second)",
        rate(data.0, wall),
        rate(data.0, cpu)
    );

    let reader = ImageReader::open(&path, Some(&summary.root))?;
    let ram = tempfile::tempfile_in(crate::target_dir())?;
    let (before, started) = (cpu_time(), Instant::now());
    reader.materialise(&ram, 2, &())?;
    let (cpu, wall) = (cpu_time().saturating_sub(before), started.elapsed());
    println!("  unpacked per second       {:8.2} GB ({:.2} GB per CPU second)", rate(data.0, wall), rate(data.0, cpu));
    Ok(())
}
