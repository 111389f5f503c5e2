//! Routes of the agent that only the host may call.

use percent_encoding::percent_decode_str;

/// First parts of paths with which the host controls a guest.
const INTERNAL: [&str; 8] = ["init", "freeze", "unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade", "snapshot"];

/// Whether a path leads to such a route however it is spelt. Refuses dot segments altogether: no route of the agent
/// needs one, and what it makes of them is not ours to know.
pub(crate) fn is_internal(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut parts = decoded.split(['/', '\\']).filter(|part| !part.is_empty()).peekable();
    let first = parts.peek().map(|part| part.to_ascii_lowercase()).unwrap_or_default();
    INTERNAL.contains(&first.as_str()) || parts.any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_routes_are_closed_in_every_spelling() {
        for path in [
            "/init",
            "//init",
            "/init/",
            "/%69nit",
            "/INIT",
            "/./init",
            "/x/../init",
            "/snapshot/prepare",
            "/snapshot",
            "/freeze",
            "/a/%2e%2e/init",
        ] {
            assert!(is_internal(path), "{path}");
        }
    }

    #[test]
    fn what_clients_need_is_open() {
        for path in ["/", "/health", "/files", "/process.Process/Start", "/initial", "/files/init"] {
            assert!(!is_internal(path), "{path}");
        }
    }
}
