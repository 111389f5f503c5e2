//! Whom a request is meant for: the rules of E2B's one-port routing.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

const ID: &str = "e2b-sandbox-id";
const PORT: &str = "e2b-sandbox-port";

/// Whom a request is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The API of this server.
    Api,
    /// A port of a sandbox, which may or may not exist.
    Sandbox {
        /// Its id, unchecked.
        id: String,
        /// The port in the sandbox.
        port: u16,
    },
    /// A sandbox, but it is not clear which or where.
    Incomplete(&'static str),
}

impl Destination {
    /// Decides by the host name where it can name a sandbox, and by E2B's headers where it cannot: `localhost`, an
    /// address, or `sandbox.…`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let name = without_port(host);
        if names_no_sandbox(name) { by_headers(headers) } else { by_name(name) }
    }
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

fn names_no_sandbox(name: &str) -> bool {
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.starts_with("sandbox.")
        || name.parse::<IpAddr>().is_ok()
}

fn by_headers(headers: &HeaderMap) -> Destination {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    match (text(ID), text(PORT)) {
        (None, None) => Destination::Api,
        (Some(id), Some(port)) => match port.parse() {
            Ok(port) => Destination::Sandbox { id: id.to_owned(), port },
            Err(_) => Destination::Incomplete("E2b-Sandbox-Port is no port number"),
        },
        (None, Some(_)) => Destination::Incomplete("missing header E2b-Sandbox-Id"),
        (Some(_), None) => Destination::Incomplete("missing header E2b-Sandbox-Port"),
    }
}

/// Takes `{port}-{id}[-anything].…`; any other name is the API's.
fn by_name(name: &str) -> Destination {
    let mut parts = name.split('.').next().unwrap_or_default().split('-');
    match (parts.next().and_then(|port| port.parse().ok()), parts.next()) {
        (Some(port), Some(id)) if !id.is_empty() => Destination::Sandbox { id: id.to_owned(), port },
        _ => Destination::Api,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Destination {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        Destination::of(&headers)
    }

    fn sandbox(id: &str, port: u16) -> Destination {
        Destination::Sandbox { id: id.into(), port }
    }

    #[test]
    fn headers_name_the_sandbox_where_the_host_cannot() {
        for host in ["127.0.0.1:3000", "localhost", "LOCALHOST:1", "[::1]:3000", "sandbox.e2b.test"] {
            let both = [("host", host), (ID, "iabc"), (PORT, "49983")];
            assert_eq!(of(&both), sandbox("iabc", 49983), "{host}");
            assert_eq!(of(&both[..1]), Destination::Api, "{host}");
            assert!(matches!(of(&both[..2]), Destination::Incomplete(_)), "{host}");
        }
        assert!(matches!(of(&[("host", "localhost"), (ID, "i"), (PORT, "65536")]), Destination::Incomplete(_)));
    }

    #[test]
    fn a_host_name_wins_over_headers() {
        assert_eq!(of(&[("host", "8080-iabc.e2b.test"), (ID, "other"), (PORT, "1")]), sandbox("iabc", 8080));
        assert_eq!(of(&[("host", "49983-iabc-00000000.e2b.test:443")]), sandbox("iabc", 49983));
    }

    #[test]
    fn other_names_are_those_of_the_api() {
        for host in ["api.e2b.test", "99999-iabc.e2b.test", "8080-.e2b.test", "example"] {
            assert_eq!(of(&[("host", host)]), Destination::Api, "{host}");
        }
    }
}
