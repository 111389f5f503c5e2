//! Packs that lie. The checksums and the id of every input are repaired first, so that all of them reach the decoder.

#![no_main]

use std::io::Write;

use dormouse_image::{check_pack, testing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let Some(named) = testing::reseal_pack(&mut bytes) else { return };
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(&bytes).unwrap();
    if let Ok(found) = check_pack(file, &named.id, &()) {
        assert_eq!(found, named);
    }
});
