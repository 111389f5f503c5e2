//! Which coding of a file a client takes (RFC 9110, section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::server::weighed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

/// Gzip where the client takes it, else the file as it is; `None` when it takes neither.
pub(super) fn choose(headers: &HeaderMap) -> Option<Coding> {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for (name, weight) in weighed(headers, ACCEPT_ENCODING) {
        let accepted = weight > 0.0;
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(accepted),
            "identity" => identity = Some(accepted),
            "*" => any = Some(accepted),
            _ => {}
        }
    }
    if gzip.or(any).unwrap_or(false) {
        Some(Coding::Gzip)
    } else {
        identity.or(any).unwrap_or(true).then_some(Coding::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_that_take_it() {
        use Coding::{Gzip, Identity};
        for (header, coding) in [
            ("gzip", Some(Gzip)),
            ("deflate, gzip;q=0.5", Some(Gzip)),
            ("*", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("gzip; q=0.0, *", Some(Identity)),
            ("br", Some(Identity)),
            ("", Some(Identity)),
            ("gzip;q=x", Some(Identity)),
            ("identity;q=0", None),
            ("br, *;q=0", None),
            ("identity, *;q=0", Some(Identity)),
        ] {
            let headers = [(ACCEPT_ENCODING, header.parse().unwrap())].into_iter().collect();
            assert_eq!(choose(&headers), coding, "{header}");
        }
        assert_eq!(choose(&HeaderMap::new()), Some(Identity));
    }
}
