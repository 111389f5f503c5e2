//! Disk indexes that lie. The checksum of every input is repaired first, so that all of them reach the decoder.

#![no_main]

use std::io::Write;

use dormouse_image::{DiskIndex, testing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let _ = testing::reseal_disk_index(&mut bytes);
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.write_all(&bytes).unwrap();
    let Ok(index) = DiskIndex::read(file.path(), None) else { return };
    // What is read is what is written again.
    let again = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let digest = index.write(again.as_file()).unwrap();
    assert_eq!(DiskIndex::read(again.path(), Some(&digest)).unwrap(), index);
});
