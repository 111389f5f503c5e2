//! Manifests that are read back, and those that are refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use dormouse_guest_mem::Bytes;
use dormouse_image::manifest::{
    BaseDiskRef, DeviceStateRef, FILE_NAME, FileName, Introspection, IntrospectionMethod, Manifest, ManifestError,
    MemoryRef, OverlayRef,
};
use dormouse_image::{Digest, PackRef};
use support::fixture;

fn name(text: &str) -> FileName {
    text.try_into().unwrap()
}

fn sample() -> Manifest {
    Manifest {
        snapshot: "sabcdefghij0123456789".to_owned(),
        created: "2026-11-23T13:00:00Z".to_owned(),
        template: "base".to_owned(),
        parent: None,
        machine: serde_json::json!({"vcpus": 2, "ram": [{"guest": 0, "offset": 0, "len": 262_144}]}),
        fingerprint: [("qemu".to_owned(), "10.0.2".to_owned()), ("machine".to_owned(), "pc-q35-10.0".to_owned())]
            .into(),
        memory: MemoryRef {
            file: name("memory.idx"),
            len: Bytes(70_000),
            root: "ab".repeat(32).parse().unwrap(),
            ram: Some("cd".repeat(32).parse().unwrap()),
            packs: vec![PackRef { id: "ef".repeat(32).parse().unwrap(), len: Bytes::mib(20) }],
        },
        device_state: DeviceStateRef {
            file: name("device.state"),
            len: Bytes(1000),
            raw_len: Bytes(5000),
            blake3: Digest::of(b"state"),
        },
        overlay: OverlayRef {
            file: name("overlay.ext4"),
            len: Bytes::mib(1024),
            allocated: Bytes::mib(3),
            content: None,
        },
        base_disk: BaseDiskRef {
            artifact: "base-1".to_owned(),
            len: Bytes::mib(400),
            index: Some(Digest::of(b"disk")),
        },
        introspection: Introspection {
            method: IntrospectionMethod::ZeroOnly,
            reason: Some("no VMCOREINFO note".to_owned()),
            kernel: Some("6.12.48".to_owned()),
        },
        report: [("kept_bytes".to_owned(), u64::MAX), ("prepare_us".to_owned(), 81_000)].into(),
    }
}

fn written() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    sample().write_into(dir.path()).unwrap();
    let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    (dir, text)
}

fn read_text(dir: &Path, text: &str) -> Result<Manifest, ManifestError> {
    std::fs::write(dir.join(FILE_NAME), text).unwrap();
    Manifest::read(dir)
}

/// A manifest around `body` whose checksum is right.
fn sealed(body: &str) -> String {
    let checksum = Digest::of(body.as_bytes());
    format!(r#"{{"format":"dormouse-manifest","version":2,"checksum":"{checksum}","body":{body}}}"#)
}

#[test]
fn a_manifest_is_read_back_as_it_was_written_and_nothing_else_is_left() {
    let (dir, _) = written();
    assert_eq!(Manifest::read(dir.path()).unwrap(), sample());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_newer_version_is_refused_before_anything_else_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"format":"dormouse-manifest","version":7,"surprise":[1,2],"checksum":12,"body":"?"}"#;
    let error = read_text(dir.path(), text).unwrap_err();
    assert!(error.to_string().starts_with("manifest version 7 is newer than 2: upgrade dormouse"), "{error}");
}

#[test]
fn a_changed_byte_is_never_silent() {
    let (dir, text) = written();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        std::fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
        if let Ok(read) = Manifest::read(dir.path()) {
            assert_eq!(read, sample(), "byte {at}");
        }
    }
    let changed = text.replace("\"vcpus\": 2", "\"vcpus\": 3");
    assert!(matches!(read_text(dir.path(), &changed), Err(ManifestError::Checksum { .. })));
}

#[test]
fn a_manifest_cut_at_any_length_is_refused() {
    let (dir, text) = written();
    for len in 0..text.trim_end().len() {
        assert!(read_text(dir.path(), &text[..len]).is_err(), "{len}");
    }
}

#[test]
fn fields_that_the_version_does_not_have_are_refused() {
    let (dir, text) = written();
    let outer = text.replacen('{', "{\"more\": 1,", 1);
    assert!(matches!(read_text(dir.path(), &outer), Err(ManifestError::Malformed { .. })));
    let body = serde_json::to_string(&sample()).unwrap();
    assert_eq!(read_text(dir.path(), &sealed(&body)).unwrap(), sample());
    let inner = sealed(&body.replacen('{', "{\"more\":1,", 1));
    assert!(matches!(read_text(dir.path(), &inner), Err(ManifestError::Malformed { .. })));
    let deep = sealed(&body.replacen("\"memory\":{", "\"memory\":{\"more\":1,", 1));
    assert!(matches!(read_text(dir.path(), &deep), Err(ManifestError::Malformed { .. })));
}

#[test]
fn file_names_can_not_point_out_of_the_folder() {
    let (dir, _) = written();
    let body = serde_json::to_string(&sample()).unwrap();
    for bad in ["../memory.img", "/etc/passwd", "a/b", ".", "..", "", ".hidden"] {
        let text = sealed(&body.replace("\"memory.idx\"", &format!("\"{bad}\"")));
        assert!(matches!(read_text(dir.path(), &text), Err(ManifestError::Malformed { .. })), "{bad:?}");
    }
}

#[test]
fn a_huge_file_and_other_files_are_no_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let huge = sealed(&format!("\"{}\"", "a".repeat(1 << 20)));
    assert!(matches!(read_text(dir.path(), &huge), Err(ManifestError::TooLarge { .. })));
    for other in ["{}", "[]", r#"{"format":"other","version":1}"#, r#"{"format":"dormouse-manifest","version":0}"#] {
        assert!(matches!(read_text(dir.path(), other), Err(ManifestError::NotAManifest { .. })), "{other}");
    }
    let mut large = sample();
    large.created = "a".repeat(1 << 20);
    assert!(
        matches!(large.write_into(dir.path()), Err(ManifestError::TooLarge { .. })),
        "what can not be read is not written"
    );
}

#[test]
fn a_part_that_is_missing_or_has_another_length_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = sample();
    for (file, len) in [("memory.idx", 70_000), ("device.state", 1000), ("overlay.ext4", 1 << 30)] {
        assert!(manifest.check_files(dir.path()).unwrap_err().to_string().contains(file));
        let made = std::fs::File::create(dir.path().join(file)).unwrap();
        made.set_len(len - 1).unwrap();
        let message = manifest.check_files(dir.path()).unwrap_err().to_string();
        assert!(message.contains(file) && message.contains(&format!("{len} bytes expected")), "{message}");
        made.set_len(len).unwrap();
    }
    manifest.check_files(dir.path()).unwrap();
}

#[test]
fn the_committed_manifest_of_version_1_is_read_for_ever() {
    let mut expected = sample();
    expected.memory = MemoryRef { file: name("memory.img"), ram: None, packs: Vec::new(), ..expected.memory };
    expected.base_disk.index = None;
    let dir = fixture("manifest.json");
    assert_eq!(Manifest::read(dir.parent().unwrap()).unwrap(), expected);
}
