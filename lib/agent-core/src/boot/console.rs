//! Messages for whoever watches the guest's console.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static ENABLED: AtomicBool = AtomicBool::new(false);

/// From now on messages are written. A plain process leaves the machine's console alone.
pub(super) fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Writes a line to `/dev/console`, prefixed `dormouse-agent:`. Outside a guest it does nothing. A console that cannot be written to
/// is no reason to stop.
pub fn log(message: &str) {
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let console =
        std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().write(true), flags).open("/dev/console");
    if let Ok(mut console) = console {
        let _ = console.write_all(format!("dormouse-agent: {message}\n").as_bytes());
    }
}
