//! Ranges of a file that a client asks for (RFC 9110, section 14.2).

use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};

/// Leaves a `Range` only where the file server can do what it means, which is one range of bytes. Otherwise the whole file is sent, as a
/// server may: of a range that makes no sense, of several, and with `If-Range`, since only an exact tag would prove that the range is
/// of the same version (section 13.1.5).
pub(super) fn simplify(headers: &mut HeaderMap) {
    let conditional = headers.remove(IF_RANGE).is_some();
    let several = headers.get_all(RANGE).iter().nth(1).is_some();
    let single = headers.get(RANGE).and_then(|range| range.to_str().ok()).is_some_and(is_single);
    if conditional || several || !single {
        headers.remove(RANGE);
    }
}

/// `bytes=` and one of `a-b`, `a-` and `-b`.
fn is_single(range: &str) -> bool {
    let Some((unit, range)) = range.split_once('=') else { return false };
    let Some((first, last)) = range.trim().split_once('-') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let first_number: Option<u64> = first.parse().ok();
    let last_number: Option<u64> = last.parse().ok();
    unit.eq_ignore_ascii_case("bytes")
        && match (first, last) {
            ("", last) => is_number(last),
            (first, "") => is_number(first),
            (first, last) => is_number(first) && is_number(last) && first_number <= last_number,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_range_of_bytes_is_left() {
        for (range, left) in [
            ("bytes=0-4", true),
            ("bytes=5-", true),
            ("bytes=-5", true),
            ("Bytes=0-0", true),
            ("bytes=0-1,3-4", false),
            ("bytes=4-0", false),
            ("bytes=-", false),
            ("bytes=a-b", false),
            ("bytes=+1-2", false),
            ("lines=0-4", false),
            ("bytes", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
            simplify(&mut headers);
            assert_eq!(headers.contains_key(RANGE), left, "{range}");
        }
        let mut conditional =
            HeaderMap::from_iter([(RANGE, "bytes=0-4".parse().unwrap()), (IF_RANGE, "\"tag\"".parse().unwrap())]);
        simplify(&mut conditional);
        assert!(conditional.is_empty());
    }
}
