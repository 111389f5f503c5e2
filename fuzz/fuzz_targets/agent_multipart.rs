//! Multipart bodies, plain and compressed, cut anywhere. However a body is cut, the same files are in it.

#![no_main]

use std::sync::LazyLock;

use dormouse_agent_core::testing::read_multipart;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

fuzz_target!(|data: &[u8]| {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().unwrap());
    let [choice, size, rest @ ..] = data else { return };
    let gzip = choice & 1 == 1;
    // The content type is the client's too.
    let (kind, body) = if choice & 2 == 0 {
        ("multipart/form-data; boundary=b".into(), rest)
    } else {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        (String::from_utf8_lossy(&rest[..end]).into_owned(), rest.get(end + 1..).unwrap_or_default())
    };
    let read = |size| RUNTIME.block_on(read_multipart(body, size, &kind, gzip));
    let (whole, cut) = (read(usize::MAX), read(usize::from(*size)));
    if let (Some(whole), Some(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
    }
});
