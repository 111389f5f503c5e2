//! Paths and headers that name files. A path is absolute without dots, and one that climbs nowhere stays below the home.

#![no_main]

use std::path::{Component, Path};

use dormouse_agent_core::testing::{place, read_file_headers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let home = Path::new("/home/user");
    let mut lines = data.split(|byte| *byte == b'\n');
    let path = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let Some(placed) = place(&path, home) else {
        assert!(path.contains('\0') || path.len() > 4096);
        return;
    };
    assert!(placed.is_absolute());
    assert!(placed.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))));
    assert!(!placed.to_string_lossy().contains('\0'));
    if !path.starts_with('/') && path.split('/').all(|part| part != "..") {
        assert!(placed.starts_with(home), "{path:?} is at {placed:?}");
    }
    let headers = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..at], &line[at + 1..]))
    });
    let named = read_file_headers(headers, &placed);
    let named = named.to_str().expect("printable");
    assert!(named == "inline" || matches!(named.matches('"').count(), 2), "{named}");
});
